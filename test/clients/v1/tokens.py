"""Tokens that end while a job runs: its own, and that of whoever waits for it. Usage as of client.py; the server's tokens are
good for a minute in jobs, and for less elsewhere.
"""

import sys

import requests

from kit import CODE, promise, run as run_promises
from azureml.core import Experiment, Run, ScriptRunConfig
from azureml.core.compute import ComputeTarget, RemoteCompute
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.environment import Environment

import machine
from machine import HOST, KEY, PORT, USER, ws

job = None


def status(header):
    url = ws().get_details()["discoveryUrl"].split("/discovery")[0] + ws().get_details()["id"] + "?api-version=2022-05-01"
    return requests.get(url, headers=header).status_code


@promise
def a_job_logs_and_is_waited_for_longer_than_any_token_is_good():
    global job
    machine.vm = ComputeTarget.attach(ws(), "box", RemoteCompute.attach_configuration(address=HOST, ssh_port=int(PORT), username=USER, private_key_file=KEY))
    machine.vm.wait_for_completion()
    env = Environment("own")
    env.python.conda_dependencies = CondaDependencies.create()
    config = ScriptRunConfig(CODE, script="long.py", compute_target=machine.vm, environment=env)
    # A clock in the east: the client then takes a time without its zone for one that is hours later.
    config.run_config.environment_variables = {"TZ": "Asia/Tokyo"}
    first = ws()._auth_object.get_authentication_header()
    assert status(first) == 200, status(first)
    job = Experiment(ws(), "tokens").submit(config)
    job.wait_for_completion(show_output=True)
    assert status(first) == 401, "the client's first token did not end"
    assert job.get_status() == "Completed", job.get_status()


@promise
def nothing_that_it_logged_is_missing():
    said = job.get_details_with_logs()["logFiles"]["user_logs/std_log.txt"]
    count = int(said.split("logged ")[1].split(" values")[0])
    assert count > 30 and "JST" in said, said
    assert job.get_metrics() == {"n": list(range(count))}, job.get_metrics()
    assert Run.get(ws(), job.id).get_status() == "Completed"


run_promises(sys.argv[8:])
