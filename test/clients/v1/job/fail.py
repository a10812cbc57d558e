"""Logs, and fails as scripts do."""

from azureml.core import Run

run = Run.get_context(allow_offline=False)
run.log("before", 1)
print("about to fail", flush=True)
raise ValueError("the data is wrong")
