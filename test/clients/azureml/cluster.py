"""Microsoft's azure-ai-ml and a Kubernetes cluster: attach, instance types, jobs, distribution, detach.

Usage: cluster.py CONTEXT NAMESPACE IMAGE KUBECONFIG AKS_ID ARC_ID [WORD...]

The server's own kubeconfig has CONTEXT; its catalogue knows AKS_ID and not ARC_ID. KUBECONFIG is a file with the same
context. Jobs run in IMAGE, which the node has. See ../v1/kit.py for what is printed.
"""

import os
import pathlib
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "v1"))

from azure.ai.ml import MLClient, MpiDistribution, PyTorchDistribution, TensorFlowDistribution, command
from azure.ai.ml import entities as ent
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

from kit import promise, refused, run, until

CONTEXT, NAMESPACE, IMAGE, KUBECONFIG, AKS_ID, ARC_ID = sys.argv[1:7]
RUN = uuid.uuid4().hex[:6]  # makes names that no earlier run of the script took
NAME = "k8s-" + RUN
ml = MLClient(DefaultAzureCredential(), os.environ["MOORAGE_SUBSCRIPTION"], os.environ["MOORAGE_RESOURCE_GROUP"], os.environ["MOORAGE_WORKSPACE"])

TYPES = {
    "small": {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}},
    "elsewhere": {"nodeSelector": {"no/such": "node"}, "resources": {"requests": {"cpu": "1"}}},
    "gpu": {"resources": {"requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}, "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}}},
}


def attach(name, resource, **properties):
    return ml.compute.begin_attach(ent.KubernetesCompute(name=name, resource_id=resource, namespace=NAMESPACE, properties=properties)).result()


def submit(name, line, **more):
    return ml.jobs.create_or_update(command(
        name=f"{name}-{RUN}", command=line, compute=more.pop("compute", NAME), experiment_name="clusters", environment=ent.Environment(image=IMAGE, name="e-" + RUN), **more))


def completed(job, seconds=120):
    """Waits for a job, which must end well."""
    until(job.name + " ends", lambda: ml.jobs.get(job.name).status in ("Completed", "Failed", "Canceled"), seconds)
    if ml.jobs.get(job.name).status != "Completed":
        ml.jobs.stream(job.name)  # raises with the reason
        raise AssertionError(job.name + " did not complete")


def log_of(job):
    ml.jobs.download(job.name, download_path=job.name)
    return "".join(p.read_text() for p in sorted(pathlib.Path(job.name).rglob("*")) if p.is_file())  # of all ranks


@promise
def a_cluster_is_attached_by_a_context_with_instance_types():
    got = attach(NAME, "kubeconfig://" + CONTEXT, defaultInstanceType="small", instanceTypes=TYPES, settings={"image": IMAGE})
    assert got.provisioning_state == "Succeeded", got.provisioning_state
    got = ml.compute.get(NAME)
    assert got.type == "kubernetes" and got.namespace == NAMESPACE and got.resource_id == "kubeconfig://" + CONTEXT, got
    types = got.properties["instanceTypes"]
    assert got.properties["defaultInstanceType"] == "small" and set(types) == set(TYPES), got.properties
    assert types["small"]["resources"]["limits"] == {"cpu": "1", "memory": str(256 << 20)}, types["small"]
    assert types["elsewhere"]["nodeSelector"] == {"no/such": "node"}, types["elsewhere"]


@promise
def it_is_listed_and_attaching_again_is_no_second_attachment():
    assert {c.name: c.type for c in ml.compute.list()}[NAME] == "kubernetes"
    attach(NAME, "kubeconfig://" + CONTEXT)
    refused(lambda: attach("two-" + RUN, "kubeconfig://" + CONTEXT), "already attached", NAME, kind=HttpResponseError)


@promise
def its_id_is_found_in_the_catalogue_and_is_the_same_cluster():
    refused(lambda: attach("aks-" + RUN, AKS_ID), "already attached", NAME, kind=HttpResponseError)


@promise
def an_arc_id_alone_is_not_enough_and_says_why():
    refused(lambda: attach("arc-" + RUN, ARC_ID), "relay", f"moorage resource add {ARC_ID}", "--kubeconfig-file", kind=HttpResponseError)
    ml.compute.begin_delete("arc-" + RUN, action="Detach").wait()  # or it would be attached as soon as the catalogue knows it


@promise
def instance_types_that_mean_nothing_are_refused():
    refused(lambda: attach("bad-" + RUN, "kubeconfig://other", instanceTypes={"x": {"resources": {"limits": {"cpu": "lots"}}}}), "lots", kind=HttpResponseError)


@promise
def a_job_gets_what_its_instance_type_says():
    job = submit("plain", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; echo done")
    completed(job)
    assert str(256 << 20) in log_of(job) and "done" in log_of(job), log_of(job)
    job = submit("named", "echo done", instance_type="small")
    completed(job)
    assert ml.jobs.get(job.name).resources.instance_type == "small"


@promise
def an_unknown_instance_type_is_refused_and_the_known_ones_are_named():
    refused(lambda: submit("unknown", "true", instance_type="huge"), "huge", "elsewhere, gpu, small", kind=HttpResponseError)


@promise
def processes_of_one_node_find_each_other():
    job = submit("pytorch", "echo rank $RANK of $WORLD_SIZE", distribution=PyTorchDistribution(process_count_per_instance=2), shm_size="64m")
    got = ml.jobs.get(job.name)
    assert got.distribution.type.lower() == "pytorch" and got.distribution.process_count_per_instance == 2 and got.resources.shm_size == "64m", got
    completed(job)
    text = log_of(job)
    assert "rank 0 of 2" in text and "rank 1 of 2" in text, text


@promise
def several_nodes_run_or_are_refused_in_plain_words():
    try:
        job = submit("nodes", "echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE", instance_count=2, distribution=MpiDistribution(process_count_per_instance=1))
    except HttpResponseError as e:
        assert NAME in str(e) and "instance_count" in str(e), e
        return
    completed(job)
    text = log_of(job)
    assert "rank 0 of 2" in text and "rank 1 of 2" in text, text


@promise
def parameter_servers_are_refused_in_plain_words():
    refused(lambda: submit("ps", "true", distribution=TensorFlowDistribution(worker_count=1, parameter_server_count=1)), "parameter_server_count", kind=HttpResponseError)


@promise
def it_is_detached_and_attached_again_by_a_kubeconfig_of_ones_own():
    ml.compute.begin_delete(NAME, action="Detach").wait()
    refused(lambda: ml.compute.get(NAME), kind=ResourceNotFoundError)
    text = pathlib.Path(KUBECONFIG).read_text()
    attach(NAME, "kubeconfig://" + CONTEXT, settings={"kubeconfig": text})
    got = ml.compute.get(NAME)
    shown = str(got.properties)
    assert got.provisioning_state == "Succeeded" and "client-key" not in shown and "client-certificate" not in shown, shown
    ml.compute.begin_delete(NAME).wait()
    assert NAME not in [c.name for c in ml.compute.list()]


run(sys.argv[7:])
