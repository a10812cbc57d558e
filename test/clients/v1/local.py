"""The local target: the script runs on the computer of whoever submits it."""

import pathlib

from azureml.core import Experiment, ScriptRunConfig
from azureml.exceptions import ActivityFailedException

from kit import CODE, printed, promise, refused, until
from machine import ws
from training import here, log


def submit(script, *arguments, **more):
    config = ScriptRunConfig(source_directory=CODE, script=script, arguments=list(arguments), environment=here(), **more)
    config.run_config.environment_variables = {"GREETING": "from the environment"}
    return Experiment(ws(), "local").submit(config)


@promise
def without_a_target_the_script_runs_here():
    run = submit("here.py", "--x", 1)
    output, _ = printed(lambda: run.wait_for_completion(show_output=True))
    assert run.get_status() == "Completed", run.get_status()
    assert "hello from here ['--x', '1'] from the environment" in output, output
    assert run.get_metrics() == {"here": 1}, run.get_metrics()
    assert "outputs/here.txt" in run.get_file_names(), run.get_file_names()
    run.download_file("outputs/here.txt", "here.txt")
    assert pathlib.Path("here.txt").read_text() == "made here"


@promise
def local_is_a_target_by_name_and_a_failure_is_one():
    run = submit("fail.py", compute_target="local")
    refused(lambda: run.wait_for_completion(show_output=True), kind=ActivityFailedException)
    assert run.get_status() == "Failed" and run.get_metrics() == {"before": 1}, (run.get_status(), run.get_metrics())
    assert "the data is wrong" in log(run)


@promise
def a_run_here_is_canceled():
    run = submit("wait.py", 120)
    until("it runs", lambda: run.get_status() == "Running")
    run.cancel()
    until("it is canceled", lambda: run.get_status() == "Canceled")
