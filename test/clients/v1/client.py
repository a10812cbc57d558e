"""The unmodified azureml-core against a running server, used as its documentation tells people to.

Usage: client.py HOST PORT USER PASSWORD KEYFILE VM_ID SEED [WORD...]

The first five lead to a machine by SSH; VM_ID is an ARM id under which the server's catalogue knows it; SEED is the folder
with the documentation's code blocks, or empty. WORDs narrow the promises to those whose name holds one. Address and
credentials of the server come from the environment alone, as `moorage env` prints it. See kit.py for what is printed.
"""

import sys

import kit

# The order is that of the promises: training goes on on the machine while what needs no machine is tried.
import computes  # noqa: F401
import training  # noqa: F401
import workspaces  # noqa: F401
import models  # noqa: F401
import environments  # noqa: F401
import data  # noqa: F401
import interactive  # noqa: F401
import runs  # noqa: F401
import local  # noqa: F401
import outside  # noqa: F401
import detach  # noqa: F401

kit.run(sys.argv[8:])
