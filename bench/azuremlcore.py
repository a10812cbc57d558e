"""Submits a script with azureml-core, follows it to its end, and tells how long that was spent waiting for others.

Usage: azuremlcore.py COMPUTE FOLDER SCRIPT INTERPRETER [METRIC]

It runs in a folder with config.json. INTERPRETER is a Python of the target; "prepared" has the server make an environment
with this client's azureml-core. Lines of JSON are printed: one when the server has taken the run, one at the end with every
request of the client and, if METRIC is named, the number of its values that can be read back.
"""

import importlib.metadata
import json
import sys
import threading
import time

import requests

made = []  # every request
within = threading.local()
plain = requests.Session.send
told, sys.stdout = sys.stdout, sys.stderr  # what the client prints is no line of ours


def say(**what):
    print(json.dumps(what), file=told, flush=True)


def send(session, request, **how):
    """Notes what a request took: of its time by the clock, what the thread did not spend on the processor was waiting."""
    if getattr(within, "request", False):  # a redirect, which is part of the first request
        return plain(session, request, **how)
    content = 0
    if request.method == "PUT" and ".blob." in request.url:
        content = int(request.headers["Content-Length"])  # an upload that does not say its length fails here
    within.request, began, clock, busy = True, time.time(), time.perf_counter(), time.thread_time()
    try:
        answer = plain(session, request, **how)
    finally:
        within.request, ended = False, time.time()
        waited = max(0, time.perf_counter() - clock - (time.thread_time() - busy))
        made.append({"Path": request.url.split("?")[0], "Began": began, "Ended": ended, "Waited": waited, "Content": content})
    if "/snapshotrun" in request.url and answer.ok:
        say(Accepted=request.url.split("runId=")[1].split("&")[0], At=ended)
    return answer


requests.Session.send = send

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace  # noqa: E402
from azureml.core.conda_dependencies import CondaDependencies  # noqa: E402

compute, folder, script, interpreter = sys.argv[1:5]
metric = sys.argv[5] if len(sys.argv) > 5 else ""
environment = Environment("bench")
if interpreter == "prepared":
    version = "%d.%d" % sys.version_info[:2]
    packages = ["azureml-core==" + importlib.metadata.version("azureml-core")]
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=packages, python_version=version, pin_sdk_version=False)
else:
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = interpreter
began = time.time()
experiment = Experiment(Workspace.from_config(), "bench")
loaded = time.time()
run = experiment.submit(ScriptRunConfig(folder, script=script, compute_target=compute, environment=environment))
run.wait_for_completion(show_output=True, raise_on_error=False)
ended = time.time()
log, values = "", []
if metric:
    log = run.get_details_with_logs()["logFiles"].get("user_logs/std_log.txt", "")
    values = run.get_metrics(name=metric).get(metric, [])
say(Began=began, Loaded=loaded, Ended=ended, Status=run.get_status(), Requests=made, Log=log, Values=len(values))
