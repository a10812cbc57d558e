"""The documentation's second code block, submitted. The environment it describes is prepared on the machine meanwhile."""

import os
import sys

from azureml.core import Experiment, ScriptRunConfig
from azureml.core.environment import Environment

import machine
from computes import block
from kit import CODE, Later, project, promise
from machine import ws

experiment = None  # where all of this is
environment = None  # of the documentation: scikit-learn by conda, and the default image
run = streaming = None  # that trains in it, and how it is followed from the beginning


@promise
def block_2_describes_an_environment_and_a_run():
    global environment, experiment, run, streaming
    experiment = Experiment(ws(), "the-document_1")
    os.chdir(CODE)  # the block says "."
    try:
        _, scope = block(2, compute=machine.vm)
        run = experiment.submit(scope["src"], tags={"from": "the document"})
    finally:
        os.chdir(project)
    environment = scope["myenv"]
    streaming = Later(lambda: run.wait_for_completion(show_output=True))
    assert run.get_status() not in ("Failed", "Canceled"), run.get_status()
    assert run.get_portal_url().startswith("https://"), run.get_portal_url()


def log(of):
    """What a run printed. The client streams nothing of a run that is over when it first looks."""
    return of.get_details_with_logs()["logFiles"]["user_logs/std_log.txt"]


def config(script, *arguments, env=None, **more):
    """A run of a script on the machine, in the environment of the documentation unless another is said."""
    return ScriptRunConfig(
        source_directory=CODE, script=script, arguments=list(arguments), compute_target=machine.vm, environment=env or environment, **more)


def plain():
    """The machine's own Python, with nothing installed."""
    env = Environment("plain")
    env.python.user_managed_dependencies = True
    env.python.interpreter_path = "python3"
    return env


def here():
    """The Python that this script runs in."""
    env = Environment("here")
    env.python.user_managed_dependencies = True
    env.python.interpreter_path = sys.executable
    return env
