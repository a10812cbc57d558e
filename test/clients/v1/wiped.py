"""The client's caches when another server stands where the one was that it remembers. Usage as of client.py.

It runs in the home and the project of a person whose client has seen the other server, and has not changed a file since.
"""

import json
import pathlib
import sys

from kit import CODE, promise, refused, run as run_promises
from azureml.core import Experiment, Model, ScriptRunConfig
from azureml.core.compute import ComputeTarget, RemoteCompute
from azureml.core.environment import Environment

import machine
from machine import HOST, KEY, PORT, USER, ws

CACHE = pathlib.Path.home() / ".azureml"


def submit():
    env = Environment("plain")
    env.python.user_managed_dependencies = True
    env.python.interpreter_path = "python3"
    return Experiment(ws(), "after").submit(ScriptRunConfig(CODE, script="wait.py", arguments=[0], compute_target=machine.vm, environment=env))


@promise
def there_is_a_cache_of_the_other_server():
    assert list(CACHE.rglob("latestsnapshot*")), list(CACHE.rglob("*"))


@promise
def the_machine_is_attached_anew():
    config = RemoteCompute.attach_configuration(address=HOST, ssh_port=int(PORT), username=USER, private_key_file=KEY)
    machine.vm = ComputeTarget.attach(ws(), "anew", config)
    machine.vm.wait_for_completion()


@promise
def code_that_did_not_change_since_goes_up_all_the_same():
    run = submit()
    run.wait_for_completion()
    log = run.get_details_with_logs()["logFiles"]["user_logs/std_log.txt"]
    assert run.get_status() == "Completed" and "the end" in log, log


@promise
def models_are_numbered_anew():
    pathlib.Path("weights").write_text("weights")
    m = Model.register(ws(), model_path="weights", model_name="file")
    assert m.version == 1, m.version


@promise
def a_cache_that_names_a_snapshot_which_nobody_has_is_said_by_name():
    caches = [p for p in CACHE.rglob("latestsnapshot*") if p.is_file()]
    newest = max(caches, key=lambda p: p.stat().st_mtime)
    kept = newest.read_text()
    content = json.loads(kept)
    assert content["snapshot_id"], sorted(content)
    newest.write_text(json.dumps({**content, "snapshot_id": "00000000-0000-4000-8000-000000000000"}))
    try:
        refused(submit, "latestsnapshot")
    finally:
        newest.write_text(kept)


run_promises(sys.argv[8:])
