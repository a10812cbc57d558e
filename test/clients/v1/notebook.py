"""Runs an example notebook cell by cell, with the words replaced that stand for what only its reader has.

Usage: notebook.py NOTEBOOK [--fill TEXT VALUE]...

The cells run in a Jupyter kernel, in the notebook's folder. The script prints what they print and a line for each cell that
ran, and ends with 1 after the first that failed.
"""

import argparse
import json
import os
import pathlib
import sys
import time

from jupyter_client.manager import start_new_kernel


def show(message):
    content = message["content"]
    if message["msg_type"] == "stream":
        print(content["text"], end="", flush=True)
    elif message["msg_type"] in ("execute_result", "display_data"):
        print(content["data"].get("text/plain", ""), flush=True)
    elif message["msg_type"] == "error":
        print("\n".join(content["traceback"]), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("notebook", type=pathlib.Path)
    p.add_argument("--fill", action="append", default=[], nargs=2, metavar=("TEXT", "VALUE"))
    a = p.parse_args()
    os.chdir(a.notebook.parent)
    cells = json.loads(pathlib.Path(a.notebook.name).read_text())["cells"]
    left = {text for text, _ in a.fill}
    manager, kernel = start_new_kernel()
    try:
        for number, cell in enumerate(cells):
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or not source.strip():
                continue
            for text, value in a.fill:
                if text in source:
                    left.discard(text)
                    source = source.replace(text, value)
            began = time.monotonic()
            reply = kernel.execute_interactive(source, output_hook=show)
            if reply["content"]["status"] != "ok":
                print(f"cell {number} failed", file=sys.stderr)
                return 1
            print(f"cell {number} ran, {time.monotonic() - began:.1f} s", flush=True)
    finally:
        manager.shutdown_kernel(now=True)
    if left:
        print(f"the notebook does not hold {sorted(left)} any more", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
