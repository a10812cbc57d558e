"""Prints a line every half second, for as long as it is told to or until the file that is named is there."""

import os
import sys
import time

seconds, gate = float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
end = time.monotonic() + seconds
n = 0
while time.monotonic() < end and not (gate and os.path.exists(gate)):
    print("line", n, flush=True)
    n += 1
    time.sleep(0.5)
print("the end", flush=True)
