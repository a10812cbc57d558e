"""Shows what it was given to read, in arguments and in the run, and writes where it was told to."""

import os
import sys

from azureml.core import Run

run = Run.get_context(allow_offline=False)


def show(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read().strip()


for name, where in sorted(run.input_datasets.items()):
    print("input", name, show(where))
for word in sys.argv[1:]:
    if os.path.exists(word):
        print("argument", show(word))
for where in run.output_datasets.values():
    with open(os.path.join(where, "made.txt"), "w") as f:
        f.write("made by the job")
