"""Runs an example notebook cell by cell, with the lines replaced that name what only its reader has.

Usage: notebook.py NOTEBOOK [--fill TEXT VALUE]... [--skip N]...

The cells run in an IPython shell, as they would in Jupyter: widgets and magics work, plots are drawn and thrown away. The
work folder is the notebook's. Cells that are skipped are named by their number in the file. The script prints a line for
each cell that ran, and the traceback of the first that failed.
"""

import argparse
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("MPLBACKEND", "agg")

from IPython.terminal.interactiveshell import TerminalInteractiveShell  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    p.add_argument("notebook", type=pathlib.Path)
    p.add_argument("--fill", action="append", default=[], nargs=2, metavar=("TEXT", "VALUE"))
    p.add_argument("--skip", action="append", default=[], type=int, metavar="N")
    a = p.parse_args()
    fills = dict(a.fill)
    used = set()
    os.chdir(a.notebook.parent)
    shell = TerminalInteractiveShell.instance()
    for number, cell in enumerate(json.loads(pathlib.Path(a.notebook.name).read_text())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or number in a.skip or not source.strip():
            continue
        for text, value in fills.items():
            if text in source:
                used.add(text)
                source = source.replace(text, value)
        began = time.monotonic()
        result = shell.run_cell(source)
        if not result.success:
            print(f"cell {number} failed: {result.error_before_exec or result.error_in_exec!r}", file=sys.stderr)
            return 1
        print(f"cell {number} ran, {time.monotonic() - began:.1f} s", flush=True)
    left = set(fills) - used
    if left:
        print(f"the notebook has changed: it does not hold {sorted(left)}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
