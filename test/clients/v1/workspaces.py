"""The workspace, and several of them in one server."""

import json
import pathlib
import uuid

from azureml.core import Experiment, Workspace
from azureml.exceptions import ProjectSystemException, WorkspaceException

from kit import promise, refused
from machine import ws

NAME = "second-" + uuid.uuid4().hex[:6]


@promise
def the_workspace_is_found_by_its_configuration():
    assert ws().name and ws().subscription_id and ws().resource_group and ws().location, ws()
    got = Workspace.get(ws().name, subscription_id=ws().subscription_id, resource_group=ws().resource_group)
    assert got.get_details()["id"] == ws().get_details()["id"]
    details = ws().get_details()
    assert details["workspaceid"] and details["discoveryUrl"].startswith("https://"), details
    # The name may differ by release: what the client prints of a workspace must be printable.
    json.dumps(details, default=str)


@promise
def a_workspace_that_is_not_there_is_not_found():
    refused(lambda: Workspace.get("nowhere", subscription_id=ws().subscription_id, resource_group=ws().resource_group),
            "not found", kind=(WorkspaceException, ProjectSystemException))


@promise
def a_second_workspace_is_made_listed_and_written_to_a_file():
    made = Workspace.create(NAME, subscription_id=ws().subscription_id, resource_group=ws().resource_group, location=ws().location, show_output=True)
    assert made.name == NAME and made.get_details()["workspaceid"] != ws().get_details()["workspaceid"]
    listed = Workspace.list(ws().subscription_id)
    assert {NAME, ws().name} <= set(listed), listed
    assert NAME in Workspace.list(ws().subscription_id, resource_group=ws().resource_group)
    pathlib.Path("second").mkdir()
    made.write_config(path="second", file_name="second.json")
    assert list(pathlib.Path("second").rglob("second.json"))
    again = Workspace.from_config(path="second", _file_name="second.json")
    assert again.name == NAME


@promise
def workspaces_of_one_server_do_not_see_each_other():
    second = Workspace.get(NAME, subscription_id=ws().subscription_id, resource_group=ws().resource_group)
    run = Experiment(second, "here").start_logging(snapshot_directory=None)
    run.log("x", 1)
    run.complete()
    assert "here" in second.experiments and "here" not in ws().experiments
    assert "attach-dsvm" not in second.compute_targets


@promise
def a_workspace_is_made_once_and_deleted():
    def make():
        Workspace.create(NAME, subscription_id=ws().subscription_id, resource_group=ws().resource_group, location=ws().location)

    refused(make, "already exists", kind=WorkspaceException)
    same = Workspace.create(
        NAME, subscription_id=ws().subscription_id, resource_group=ws().resource_group, location=ws().location, exist_ok=True)
    same.delete(no_wait=False)
    assert NAME not in Workspace.list(ws().subscription_id)
