"""azure-mgmt-machinelearningservices 1.0.1 and an AKS cluster that the server's catalogue knows.

Usage: managed.py AKS_ID [WORD...]
"""

import os
import sys

from azure.core.exceptions import ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.mgmt.machinelearningservices import MachineLearningServicesMgmtClient
from azure.mgmt.machinelearningservices import models as arm

from kit import promise, refused, run

AKS_ID = sys.argv[1]
BASE = os.environ["MOORAGE_URL"]
PLACE = os.environ["MOORAGE_RESOURCE_GROUP"], os.environ["MOORAGE_WORKSPACE"], "managed"
client = MachineLearningServicesMgmtClient(
    DefaultAzureCredential(), os.environ["MOORAGE_SUBSCRIPTION"], base_url=BASE, credential_scopes=[BASE + "/.default"], polling_interval=1)


@promise
def an_aks_cluster_is_attached():
    made = client.machine_learning_compute.begin_create_or_update(*PLACE, arm.ComputeResource(location="onprem", properties=arm.AKS(resource_id=AKS_ID))).result()
    assert made.properties.provisioning_state == "Succeeded", made
    got = client.machine_learning_compute.get(*PLACE)
    assert type(got.properties) is arm.AKS and got.properties.resource_id == AKS_ID, got
    assert "managed" in [c.name for c in client.machine_learning_compute.list_by_workspace(*PLACE[:2])]


@promise
def its_keys_are_its_kubeconfig():
    assert "current-context" in client.machine_learning_compute.list_keys(*PLACE).user_kube_config


@promise
def it_is_detached_and_left_alone():
    client.machine_learning_compute.begin_delete(*PLACE, underlying_resource_action="Detach").result()
    refused(lambda: client.machine_learning_compute.get(*PLACE), kind=ResourceNotFoundError)


run(sys.argv[2:])
