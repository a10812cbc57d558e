"""azureml-core and a Kubernetes cluster: KubernetesCompute and AksCompute, runs with instance types, distribution, detach.

Usage: cluster.py NAMESPACE AKS_ID ARC_ID SEED [WORD...]

The server's catalogue knows AKS_ID and ARC_ID as one cluster, with an image that has Python. SEED is the folder with the
documentation's code blocks, or empty.
"""

import json
import pathlib
import sys

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import AksCompute, ComputeTarget, KubernetesCompute
from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from azureml.exceptions import ComputeTargetException

from kit import CODE, printed, promise, refused, run

NAMESPACE, AKS_ID, ARC_ID, SEED = sys.argv[1:5]
ws = Workspace.from_config()
ours = Environment("of-the-image")
ours.python.user_managed_dependencies = True
ours.python.interpreter_path = "python3"


def attach(name, config):
    target = ComputeTarget.attach(ws, name, config)
    target.wait_for_completion(show_output=True)
    return target


def log(of):
    return of.get_details_with_logs()["logFiles"]


@promise
def an_arc_cluster_is_attached():
    target = attach("arc", KubernetesCompute.attach_configuration(resource_id=ARC_ID, namespace=NAMESPACE))
    assert target.provisioning_state == "Succeeded" and target.namespace == NAMESPACE, target.serialize()
    got = ComputeTarget(ws, "arc")
    assert type(got) is KubernetesCompute and got.type == "Kubernetes" and got.cluster_resource_id == ARC_ID, got.serialize()
    assert got.default_instance_type == "small" and got.instance_types["small"]["resources"]["limits"]["cpu"] == "1", got.instance_types
    assert ws.compute_targets["arc"].name == "arc"
    assert got.get_status().provisioning_state == "Succeeded", got.get_status()
    text = json.dumps(got.serialize())
    assert "client-key" not in text and "token" not in text, text


@promise
def a_second_attachment_is_refused_and_names_the_first():
    refused(lambda: attach("second", AksCompute.attach_configuration(resource_id=AKS_ID)), "already attached", "arc", kind=ComputeTargetException)
    assert ComputeTarget(ws, "arc").provisioning_state == "Succeeded"


@promise
def a_script_runs_on_it():
    done = Experiment(ws, "clusters").submit(ScriptRunConfig(source_directory=CODE, script="plain.py", compute_target="arc", environment=ours))
    done.wait_for_completion(raise_on_error=False)
    assert done.get_status() == "Completed", (done.get_details(), log(done))


@promise
def an_instance_type_is_asked_for_or_refused_by_name():
    def submit(kind):
        config = ScriptRunConfig(source_directory=CODE, script="plain.py", compute_target="arc", environment=ours)
        config.run_config.kubernetescompute.instance_type = kind
        return Experiment(ws, "clusters").submit(config)

    refused(lambda: submit("huge"), "huge", "small")
    done = submit("small")
    done.wait_for_completion(raise_on_error=False)
    assert done.get_status() == "Completed", log(done)


def distributed(job, line):
    config = ScriptRunConfig(source_directory=CODE, command=line, compute_target="arc", environment=ours, distributed_job_config=job)
    done = Experiment(ws, "clusters").submit(config)
    done.wait_for_completion(raise_on_error=False)
    assert done.get_status() == "Completed", (done.get_details(), log(done))
    return "".join(log(done).values())


@promise
def pytorch_is_several_processes():
    text = distributed(PyTorchConfiguration(process_count=2, node_count=1), "echo rank $RANK of $WORLD_SIZE")
    assert "rank 0 of 2" in text and "rank 1 of 2" in text, text


@promise
def mpi_is_several_processes():
    text = distributed(MpiConfiguration(process_count_per_node=2, node_count=1), "echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE")
    assert "rank 0 of 2" in text and "rank 1 of 2" in text, text


@promise
def several_nodes_run_or_are_refused_in_plain_words():
    try:
        text = distributed(PyTorchConfiguration(node_count=2), "echo rank $RANK of $WORLD_SIZE")
    except Exception as e:
        assert "arc" in str(e) and "node_count" in str(e), e
        return
    assert "rank 0 of 2" in text and "rank 1 of 2" in text, text


@promise
def parameter_servers_are_refused_in_plain_words():
    refused(lambda: distributed(TensorflowConfiguration(worker_count=1, parameter_server_count=1), "true"), "parameter_server_count")


@promise
def block_7_detaches_the_cluster_and_leaves_it():
    target = ComputeTarget(ws, "arc")
    text = pathlib.Path(SEED, "block7.py").read_text() if SEED else "compute_target.detach()"
    printed(lambda: exec(compile(text, "block7.py", "exec"), {"compute_target": target}))
    target.wait_for_completion(is_delete_operation=True)
    assert "arc" not in ws.compute_targets, ws.compute_targets


@promise
def an_aks_cluster_is_attached_read_and_detached():
    target = attach("aks", AksCompute.attach_configuration(resource_id=AKS_ID))
    assert target.provisioning_state == "Succeeded", target.serialize()
    got = ComputeTarget(ws, "aks")
    assert type(got) is AksCompute and got.type == "AKS" and got.cluster_resource_id == AKS_ID, got.serialize()
    assert type(ws.compute_targets["aks"]) is AksCompute
    got.serialize()
    assert "userKubeConfig" in got.get_credentials(), "no kubeconfig among the credentials"
    got.detach()
    got.wait_for_completion(is_delete_operation=True)
    refused(lambda: ComputeTarget(ws, "aks"), "ComputeTargetNotFound", kind=ComputeTargetException)


run(sys.argv[5:])
