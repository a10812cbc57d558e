"""azure-mgmt-machinelearningservices 1.0.1, the generated client of ARM: it has the kinds that azure-ai-ml has no class for.

Usage as of client.py. A kind whose target cannot be reached or whose driver is still to come is refused in plain words and
leaves nothing attached.
"""

import os
import sys
import uuid

from kit import promise, refused, run as run_promises
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.mgmt.machinelearningservices import MachineLearningServicesMgmtClient
from azure.mgmt.machinelearningservices import models as arm

BASE = os.environ["MOORAGE_URL"]
GROUP, WORKSPACE = os.environ["MOORAGE_RESOURCE_GROUP"], os.environ["MOORAGE_WORKSPACE"]
PROVIDERS = "/subscriptions/s/resourceGroups/g/providers/"
MARK = uuid.uuid4().hex[:6]
client = MachineLearningServicesMgmtClient(
    DefaultAzureCredential(), os.environ["MOORAGE_SUBSCRIPTION"], base_url=BASE, credential_scopes=[BASE + "/.default"], polling_interval=1)


def attach(name, compute):
    return client.machine_learning_compute.begin_create_or_update(
        GROUP, WORKSPACE, name, arm.ComputeResource(location="onprem", properties=compute)).result()


def account():
    return arm.VirtualMachineSshCredentials(username="u", password="p")


def refusal(kind, resource, compute):
    name = f"{kind}-{MARK}"
    text = refused(lambda: attach(name, compute), kind=HttpResponseError)
    assert "does not yet" in text or f"moorage resource add {resource}" in text, text
    try:
        left = client.machine_learning_compute.get(GROUP, WORKSPACE, name)
    except ResourceNotFoundError:
        return
    assert left.properties.provisioning_state == "Failed", left


@promise
def the_local_compute_is_listed():
    names = [c.name for c in client.machine_learning_compute.list_by_workspace(GROUP, WORKSPACE)]
    assert "local" in names, names
    got = client.workspaces.get(GROUP, WORKSPACE)
    assert got.name == WORKSPACE and got.workspace_id, got


@promise
def a_virtual_machine_is_refused_without_an_address():
    resource = PROVIDERS + "Microsoft.Compute/virtualMachines/nowhere"
    refusal("vm", resource, arm.VirtualMachine(
        resource_id=resource, properties=arm.VirtualMachineProperties(ssh_port=22, administrator_account=account())))


@promise
def hdinsight_is_refused_without_an_address():
    resource = PROVIDERS + "Microsoft.HDInsight/clusters/h"
    refusal("hdi", resource, arm.HDInsight(
        resource_id=resource, properties=arm.HDInsightProperties(ssh_port=22, address="127.0.0.1", administrator_account=account())))


@promise
def databricks_is_refused_without_an_address():
    resource = PROVIDERS + "Microsoft.Databricks/workspaces/w"
    refusal("dbx", resource, arm.Databricks(resource_id=resource, properties=arm.DatabricksProperties(databricks_access_token="dapi")))


@promise
def data_lake_analytics_is_refused_without_an_address():
    resource = PROVIDERS + "Microsoft.DataLakeAnalytics/accounts/a"
    refusal("adla", resource, arm.DataLakeAnalytics(
        resource_id=resource, properties=arm.DataLakeAnalyticsProperties(data_lake_store_account_name="a")))


@promise
def kubernetes_is_refused_without_an_address():
    resource = PROVIDERS + "Microsoft.ContainerService/managedClusters/k"
    refusal("aks", resource, arm.AKS(resource_id=resource))


@promise
def a_data_factory_is_refused():
    resource = PROVIDERS + "Microsoft.DataFactory/factories/f"
    refused(lambda: attach("adf-" + MARK, arm.DataFactory(resource_id=resource)), kind=HttpResponseError)


run_promises(sys.argv[8:])
