"""Sends the metrics that azureml-core still holds when a script ends.

run.log() hands a value to a thread, and nothing in the client waits for it. In Azure a wrapper around the script does. Python
imports this module by itself at its start, from PYTHONPATH, and then the sitecustomize that it hides. A script that does not
import azureml pays nothing.
"""

import sys


def _flush():
    base = sys.modules.get("azureml._run_impl.run_base")
    if base is not None:
        base._RunBase._kill(timeout=40)


def _at_exit():
    # Hooks run in reverse order. After this import ours runs before the one that stops the threads which send.
    import concurrent.futures.thread  # noqa: F401
    import threading

    try:
        threading._register_atexit(_flush)
    except (AttributeError, RuntimeError):  # Python 3.8; a Python that is ending
        import atexit

        atexit.register(_flush)


class _Watch:
    """Waits in sys.meta_path for the first import of azureml."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "azureml" and cls in sys.meta_path:
            sys.meta_path.remove(cls)
            _at_exit()
        return None


def _hidden():
    """Imports the sitecustomize that Python would have found without this one."""
    import os
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [p for p in sys.path if os.path.abspath(p or os.curdir) != here])
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


sys.meta_path.insert(0, _Watch)
_hidden()
