"""Runs on the computer of whoever submits it."""

import os
import sys

from azureml.core import Run

run = Run.get_context(allow_offline=False)
print("hello from here", sys.argv[1:], os.environ.get("GREETING"), flush=True)
run.log("here", 1)
os.makedirs("outputs", exist_ok=True)
with open("outputs/here.txt", "w") as f:
    f.write("made here")
