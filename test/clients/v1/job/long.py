"""Logs once a second until the token that it was started with is not taken any more, and a little longer."""

import os
import sys
import time

import requests
from azureml.core import Run

began, first, n = time.monotonic(), os.environ["AZUREML_RUN_TOKEN"], 0
run = Run.get_context(allow_offline=False)
url = "{AZUREML_SERVICE_ENDPOINT}/history/v1.0/subscriptions/{AZUREML_ARM_SUBSCRIPTION}/resourceGroups/{AZUREML_ARM_RESOURCEGROUP}/providers/" \
    "Microsoft.MachineLearningServices/workspaces/{AZUREML_ARM_WORKSPACE_NAME}/runs/{AZUREML_RUN_ID}".format(**os.environ)


def taken():
    status = requests.get(url, headers={"Authorization": "Bearer " + first}).status_code
    assert status in (200, 401), status
    return status == 200


def log():
    global n
    run.log("n", n)
    n += 1
    time.sleep(1)


while taken():
    if time.monotonic() > began + 300:
        sys.exit("the token does not end")
    log()
for _ in range(5):
    log()
print(f"logged {n} values, the token ended after {time.monotonic() - began - 5:.0f} s in", time.tzname[0])
