"""Needs nothing but Python: for places without the client."""

import os
import sys

print("hello from", os.uname().nodename, sys.argv[1:], flush=True)
os.makedirs("outputs", exist_ok=True)
with open("outputs/plain.txt", "w") as f:
    f.write("made there")
