"""The machine that the tests train on, as the arguments of every script name it, and the workspace."""

import functools
import sys

from azureml.core import Workspace

HOST, PORT, USER, PASSWORD, KEY, VM_ID, SEED = sys.argv[1:8]
NAME = "attach-dsvm"  # as the documentation calls it


@functools.lru_cache(maxsize=1)
def ws():
    return Workspace.from_config()
