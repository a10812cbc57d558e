"""Attaching: a machine by address and by resource id, and each kind of the documentation."""

import json
import textwrap
import time

from azureml.core.compute import (
    AdlaCompute, AksCompute, BatchCompute, ComputeTarget, DatabricksCompute, HDInsightCompute, KubernetesCompute, RemoteCompute,
)
from azureml.exceptions import ComputeTargetException

import machine
from kit import printed, promise, refused
from machine import HOST, KEY, NAME, PASSWORD, PORT, USER, VM_ID, ws

ID = VM_ID.rsplit("/", 3)[0]  # …/providers
GROUP = ID.rsplit("/", 2)[0] + "/group/providers"  # another resource group


def block(number, fill=(), **names):
    """Run a code block of the documentation, or our words for it where there is none. Only placeholders are filled in."""
    text = open(f"{machine.SEED}/block{number}.py").read() if machine.SEED else OWN_WORDS[number]
    text = textwrap.dedent(text)
    for placeholder, value in dict(fill).items():
        assert placeholder in text, f"block {number} has no {placeholder}"
        text = text.replace(placeholder, value)
    scope = {"ws": ws(), **names}
    try:
        output, _ = printed(lambda: exec(compile(text, f"block{number}.py", "exec"), scope))
    except ComputeTargetException as e:
        e.scope = scope
        raise
    return output, scope


@promise
def a_compute_is_not_there_before_it_is_attached():
    assert NAME not in ws().compute_targets, ws().compute_targets
    refused(lambda: ComputeTarget(ws(), NAME), "ComputeTargetNotFound", kind=ComputeTargetException)


@promise
def a_machine_is_attached_by_its_address_with_a_key():
    config = RemoteCompute.attach_configuration(address=HOST, ssh_port=int(PORT), username=USER, private_key_file=KEY)
    vm = ComputeTarget.attach(ws(), "by-address", config)
    vm.wait_for_completion(show_output=True)
    assert vm.provisioning_state == "Succeeded" and not vm.provisioning_errors, vm.serialize()
    assert vm.address == HOST and int(vm.ssh_port) == int(PORT), (vm.address, vm.ssh_port)
    got = ComputeTarget(ws(), "by-address")
    assert type(got) is RemoteCompute and got.type == "VirtualMachine", (type(got), got.type)
    assert ws().compute_targets["by-address"].name == "by-address"
    got.refresh_state()
    assert got.get_status() == "Succeeded", got.get_status()
    assert KEY not in json.dumps(got.serialize()) and "PRIVATE KEY" not in json.dumps(got.serialize())
    assert "PRIVATE KEY" in json.dumps(got.get_credentials())


@promise
def a_second_attachment_of_the_machine_is_refused_and_names_the_first():
    config = RemoteCompute.attach_configuration(address=HOST, ssh_port=int(PORT), username=USER, password=PASSWORD)
    refused(lambda: attach("second", config), "already attached", "by-address", kind=ComputeTargetException)
    assert ComputeTarget(ws(), "by-address").provisioning_state == "Succeeded"
    detach_what_failed("second")


@promise
def the_machine_is_detached_and_its_name_is_free():
    vm = ComputeTarget(ws(), "by-address")
    vm.detach()
    vm.wait_for_completion(is_delete_operation=True)
    refused(lambda: ComputeTarget(ws(), "by-address"), "ComputeTargetNotFound", kind=ComputeTargetException)
    assert "by-address" not in ws().compute_targets


@promise
def the_old_way_to_attach_is_refused_by_the_client_itself():
    """RemoteCompute.attach has only its message left in the client, which names attach_configuration."""
    refused(lambda: RemoteCompute.attach(ws(), "old-style", USER, HOST, ssh_port=int(PORT), password=PASSWORD),
            "deprecated", "attach_configuration", kind=ComputeTargetException)


@promise
def block_1_attaches_a_machine_by_its_resource_id():
    output, scope = block(1, {"<resource_id>": VM_ID, "<username>": USER, "<password>": PASSWORD})
    machine.vm = scope["compute"]
    assert "Succeeded" in output, output
    assert machine.vm.cluster_resource_id == VM_ID, machine.vm.cluster_resource_id
    assert ws().compute_targets[NAME].provisioning_state == "Succeeded"


@promise
def a_machine_that_does_not_answer_fails_within_seconds():
    config = RemoteCompute.attach_configuration(address="127.0.0.1", ssh_port=1, username="u", password="p")
    refused(lambda: attach("gone", config), kind=ComputeTargetException)
    detach_what_failed("gone")


@promise
def a_wrong_password_fails_within_seconds():
    config = RemoteCompute.attach_configuration(address=HOST, ssh_port=int(PORT), username=USER, password="wrong" + PASSWORD)
    text = refused(lambda: attach("wrong", config), kind=ComputeTargetException)
    assert PASSWORD not in text, text
    detach_what_failed("wrong")


@promise
def an_unknown_resource_id_says_how_its_address_is_made_known():
    unknown = ID + "/Microsoft.Compute/virtualMachines/nowhere"
    config = RemoteCompute.attach_configuration(resource_id=unknown, ssh_port=22, username=USER, password=PASSWORD)
    refused(lambda: attach("unknown", config), "unknown", "address", f"moorage resource add {unknown}", kind=ComputeTargetException)
    detach_what_failed("unknown")


@promise
def block_3_attaches_a_cluster_of_hdinsight_or_says_why_not():
    cluster = ID + "/Microsoft.HDInsight/clusters/cluster"
    # The block catches what goes wrong, prints it, and goes on to use what it does not have.
    try:
        output, _ = block(3, {"<resource_id>": cluster, "<ssh-username>": USER, "<ssh-pwd>": PASSWORD})
    except (NameError, ComputeTargetException) as e:
        output = str(e)
        if isinstance(e, NameError):
            config = HDInsightCompute.attach_configuration(resource_id=cluster, ssh_port=22, username=USER, password=PASSWORD)
            output = refused(lambda: attach("myhdi", config), kind=ComputeTargetException)
    plain("myhdi", cluster, output)


@promise
def block_4_attaches_batch_or_says_why_not():
    fill = {"<batch_account_name>": "account", "<batch_resource_group>": "group"}
    kind_of_the_document(4, fill, "mybatchcompute", BatchCompute, GROUP + "/Microsoft.Batch/batchAccounts/account")


@promise
def block_5_attaches_databricks_or_says_why_not():
    fill = {"<databricks_compute_name>": "mybricks", "<databricks_workspace_name>": "bricks", "<databricks_resource_group>": "group",
            "<databricks_access_token>": "dapi-token-of-the-test"}
    text = kind_of_the_document(5, fill, "mybricks", DatabricksCompute, GROUP + "/Microsoft.Databricks/workspaces/bricks")
    assert "dapi-token" not in text, text


@promise
def block_6_attaches_data_lake_analytics_or_says_why_not():
    fill = {"<adla_compute_name>": "myadla", "<adla_resource_group>": "group", "<adla_account_name>": "lake"}
    kind_of_the_document(6, fill, "myadla", AdlaCompute, GROUP + "/Microsoft.DataLakeAnalytics/accounts/lake")


@promise
def kubernetes_is_attached_or_says_why_not():
    arc = ID + "/Microsoft.Kubernetes/connectedClusters/arc"
    plain("k8s", arc, refused(lambda: attach("k8s", KubernetesCompute.attach_configuration(resource_id=arc, namespace="default")), kind=ComputeTargetException))
    aks = ID + "/Microsoft.ContainerService/managedClusters/aks"
    plain("aks", aks, refused(lambda: attach("aks", AksCompute.attach_configuration(resource_id=aks)), kind=ComputeTargetException))


def attach(name, config):
    target = ComputeTarget.attach(ws(), name, config)
    target.wait_for_completion()
    return target


def detach_what_failed(name):
    """What was refused may be listed as Failed, and then its name is freed by detaching; it must not be listed as attached."""
    try:
        left = ComputeTarget(ws(), name)
    except ComputeTargetException:
        return
    assert left.provisioning_state == "Failed" and left.provisioning_errors, left.serialize()
    left.detach()
    left.wait_for_completion(is_delete_operation=True)


def plain(name, resource, text):
    """An attachment that cannot be says why in plain words: the compute and the fact that is missing, or that its kind is
    still to come. It leaves nothing attached."""
    yet = "does not yet" in text or "cannot yet" in text
    assert name in text or yet, text
    assert yet or f"moorage resource add {resource}" in text, text
    detach_what_failed(name)


def kind_of_the_document(number, fill, name, kind, resource):
    """Blocks 4 to 6 look for a compute and attach it if it is not there. Gives what they say."""
    began = time.monotonic()
    try:
        output, scope = block(number, fill)
    except ComputeTargetException as e:
        assert time.monotonic() - began < 30, f"it took {time.monotonic() - began:.0f} s to say so"
        plain(name, resource, str(e))
        return str(e)
    target = ComputeTarget(ws(), name)
    assert type(target) is kind and target.provisioning_state == "Succeeded" and target.cluster_resource_id.endswith(resource), target.serialize()
    again, _ = block(number, fill)
    assert again != output and "compute not found" not in again and "Attaching" not in again, again
    return again


# What the documentation's blocks do, in words of our own, for a checkout that does not have them.
OWN_WORDS = {
    1: """
        from azureml.core.compute import ComputeTarget, RemoteCompute
        config = RemoteCompute.attach_configuration(resource_id='<resource_id>', ssh_port=22, username='<username>', password="<password>")
        compute = ComputeTarget.attach(ws, "attach-dsvm", config)
        compute.wait_for_completion(show_output=True)
    """,
    2: """
        from azureml.core import ScriptRunConfig
        from azureml.core.conda_dependencies import CondaDependencies
        from azureml.core.environment import Environment
        myenv = Environment(name="myenv")
        myenv.python.conda_dependencies = CondaDependencies.create(conda_packages=['scikit-learn'])
        src = ScriptRunConfig(source_directory=".", script="train.py", compute_target=compute, environment=myenv)
    """,
    3: """
        from azureml.core.compute import ComputeTarget, HDInsightCompute
        from azureml.exceptions import ComputeTargetException
        try:
            config = HDInsightCompute.attach_configuration(resource_id='<resource_id>', ssh_port=22, username='<ssh-username>', password='<ssh-pwd>')
            cluster = ComputeTarget.attach(workspace=ws, name='myhdi', attach_configuration=config)
        except ComputeTargetException as e:
            print(e.message)
        cluster.wait_for_completion(show_output=True)
    """,
    4: """
        from azureml.core.compute import BatchCompute, ComputeTarget
        from azureml.exceptions import ComputeTargetException
        try:
            batch = BatchCompute(ws, 'mybatchcompute')
        except ComputeTargetException:
            config = BatchCompute.attach_configuration(resource_group="<batch_resource_group>", account_name="<batch_account_name>")
            batch = ComputeTarget.attach(ws, 'mybatchcompute', config)
            batch.wait_for_completion()
            print("Attaching", batch.provisioning_state, batch.provisioning_errors)
        print(batch.cluster_resource_id)
    """,
    5: """
        from azureml.core.compute import ComputeTarget, DatabricksCompute
        from azureml.exceptions import ComputeTargetException
        try:
            bricks = ComputeTarget(workspace=ws, name="<databricks_compute_name>")
            print("there already")
        except ComputeTargetException:
            config = DatabricksCompute.attach_configuration(
                resource_group="<databricks_resource_group>", workspace_name="<databricks_workspace_name>", access_token="<databricks_access_token>")
            bricks = ComputeTarget.attach(ws, "<databricks_compute_name>", config)
            bricks.wait_for_completion(True)
    """,
    6: """
        from azureml.core.compute import AdlaCompute, ComputeTarget
        from azureml.exceptions import ComputeTargetException
        try:
            adla = ComputeTarget(workspace=ws, name="<adla_compute_name>")
            print("there already")
        except ComputeTargetException:
            config = AdlaCompute.attach_configuration(resource_group="<adla_resource_group>", account_name="<adla_account_name>")
            adla = ComputeTarget.attach(ws, "<adla_compute_name>", config)
            adla.wait_for_completion(True)
    """,
    7: "compute_target.detach()",
}
