"""Tries to submit a run below its own, and says what came of it."""

import sys

from azureml.core import Run, ScriptRunConfig

run = Run.get_context(allow_offline=False)
try:
    run.submit_child(ScriptRunConfig(".", script="wait.py", arguments=[0], compute_target=sys.argv[1]))
    print("it was submitted")
except Exception as e:
    print(e)
run.child_run(name="in its place").complete()
