"""A short tour with another release of azureml-core, or on another Python. Usage as of client.py.

It runs on the person's own computer and on the machine that is attached already, or attaches it under a name of its own.
"""

import pathlib
import sys
import uuid

from kit import CODE, printed, promise, refused, run as run_promises, until
from azureml.core import Environment, Experiment, Model, ScriptRunConfig
from azureml.core.compute import ComputeTarget, RemoteCompute
from azureml.core.conda_dependencies import CondaDependencies
from azureml.exceptions import ComputeTargetException

from machine import ws

(pathlib.Path.home() / ".azure").mkdir(exist_ok=True)  # release 1.50 keeps the list of clouds there, and does not make it
MARK = uuid.uuid4().hex[:6]


def environment(interpreter):
    env = Environment("own-" + MARK)
    env.python.user_managed_dependencies = True
    env.python.interpreter_path = interpreter
    return env


@promise
def a_machine_that_is_not_there_is_said_at_once():
    config = RemoteCompute.attach_configuration(
        resource_id="/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/nowhere", ssh_port=22, username="u", password="p")

    def attach():
        ComputeTarget.attach(ws(), "tour-" + MARK, config).wait_for_completion()

    refused(attach, "moorage resource add", kind=ComputeTargetException)


@promise
def a_script_runs_here_and_logs():
    run = Experiment(ws(), "tour").submit(ScriptRunConfig(CODE, script="here.py", arguments=["--x", 1], environment=environment(sys.executable)))
    output, _ = printed(lambda: run.wait_for_completion(show_output=True))
    assert run.get_status() == "Completed" and "hello from here" in output, output
    assert run.get_metrics() == {"here": 1}, run.get_metrics()
    run.download_file("outputs/here.txt", "here.txt")
    m = run.register_model("tour-" + MARK, model_path="outputs/here.txt")
    assert m.version == 1


@promise
def a_script_runs_on_the_servers_own_compute():
    run = Experiment(ws(), "tour").submit(ScriptRunConfig(CODE, script="wait.py", arguments=[0], compute_target="local", environment=environment("python3")))
    run.wait_for_completion()
    assert run.get_status() == "Completed"


@promise
def models_and_environments_are_registered():
    pathlib.Path("weights").write_text("weights")
    m = Model.register(ws(), model_path="weights", model_name="tour-model-" + MARK)
    assert pathlib.Path(m.download("back", exist_ok=True)).read_text() == "weights"
    env = Environment("tour-env-" + MARK)
    env.python.conda_dependencies = CondaDependencies.create(conda_packages=["numpy"])
    env.register(ws())
    assert "numpy" in Environment.get(ws(), env.name).python.conda_dependencies.serialize_to_string()


@promise
def files_go_to_the_datastore_and_come_back():
    ds = ws().get_default_datastore()
    pathlib.Path("up").mkdir()
    pathlib.Path("up/a.txt").write_text("a")
    ds.upload("up", target_path="tour-" + MARK, show_progress=False)
    ds.download("down", prefix="tour-" + MARK, show_progress=False)
    assert pathlib.Path("down", "tour-" + MARK, "a.txt").read_text() == "a"


@promise
def a_run_is_logged_from_here():
    run = Experiment(ws(), "tour").start_logging(snapshot_directory=None)
    run.log("x", 1)
    run.log("x", 2)
    run.log_list("l", [1, 2])
    with run.child_run() as child:
        child.log("y", 3)
    run.complete()
    assert run.get_metrics() == {"x": [1, 2], "l": [1, 2]} and [c.get_metrics() for c in run.get_children()] == [{"y": 3}]
    until("it is complete", lambda: run.get_status() == "Completed")


run_promises(sys.argv[8:])
