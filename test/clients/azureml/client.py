"""Microsoft's own azure-ai-ml against a running server, used as its documentation tells people to.

Usage: client.py ssh://USER@HOST:PORT KEYFILE [SUBSTRING...]     only the promises whose name holds a substring

Credentials and address come from the environment alone, as `moorage env` prints it; the names of the workspace from
MOORAGE_SUBSCRIPTION, MOORAGE_RESOURCE_GROUP and MOORAGE_WORKSPACE. MOORAGE_PROGRAM is our command line. Each promise is a function; the script prints one
line for each and exits with 1 if any is broken.
"""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

from azure.ai.ml import Input, MLClient, Output, PyTorchDistribution, TensorFlowDistribution, command
from azure.ai.ml import entities as ent
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

ADDRESS, KEY = sys.argv[1], sys.argv[2]
RUN = uuid.uuid4().hex[:6]  # makes names that no earlier run of the script took
VM, ALIAS = "box-" + RUN, "cpu-" + RUN
scratch = pathlib.Path(tempfile.mkdtemp())
PROMISES = []


def promise(function):
    PROMISES.append(function)
    return function


def client():
    return MLClient(
        DefaultAzureCredential(), os.environ["MOORAGE_SUBSCRIPTION"], os.environ["MOORAGE_RESOURCE_GROUP"],
        os.environ["MOORAGE_WORKSPACE"])


ml = client()


def write(path, text):
    path = scratch / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def name(of):
    return f"{of}-{RUN}"


def wait(job, states=("Completed", "Failed", "Canceled"), seconds=180):
    """The state of a job, once it is one of these."""
    end = time.monotonic() + seconds
    while True:
        got = ml.jobs.get(job).status
        if got in states:
            return got
        assert time.monotonic() < end, f"job {job} is still {got} after {seconds} s"
        time.sleep(0.2)


def log_of(job):
    """The log as the client streams it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        ml.jobs.stream(job)
    return out.getvalue()


def log_at_end(job):
    """The log of a job that is over, which the client does not stream any more."""
    folder = scratch / ("log-" + job)
    ml.jobs.download(job, download_path=str(folder))
    return next(folder.rglob("std_log.txt")).read_text()


def refused(call, *words):
    """The call must fail with an answer of the server that holds these words."""
    try:
        call()
    except HttpResponseError as e:
        text = str(e)
        assert all(w.lower() in text.lower() for w in words), text
        assert 400 <= (e.status_code or 400) < 500 or e.status_code == 501, text
        return text
    raise AssertionError("it was not refused")


def cli(*words):
    """Our command line, for what Azure's client cannot say of a machine."""
    done = subprocess.run([os.environ["MOORAGE_PROGRAM"], *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


CODE = scratch / "src"
write("src/train.py", """
import argparse, os, pathlib, sys, time
from lib.words import GREETING
p = argparse.ArgumentParser()
p.add_argument("--data"); p.add_argument("--lr", type=float); p.add_argument("--model"); p.add_argument("--seconds", type=float, default=0)
a = p.parse_args()
print(GREETING, "lr", a.lr, "A", os.environ.get("A"))
time.sleep(a.seconds)
if a.data:
    print("data:", pathlib.Path(a.data).read_text().strip() if os.path.isfile(a.data) else sorted(os.listdir(a.data)))
if a.model:
    pathlib.Path(a.model, "größe").mkdir(parents=True, exist_ok=True)
    pathlib.Path(a.model, "größe", "model 1.txt").write_text("weights")
os.makedirs("outputs", exist_ok=True)
pathlib.Path("outputs/report.txt").write_text("report")
print("done")
""")
write("src/lib/__init__.py", "")
write("src/lib/words.py", "GREETING = 'hello from a snapshot'\n")
write("src/empty.txt", "")


# ---------------------------------------------------------------- workspace and computes
@promise
def the_workspace_is_found_by_config_json():
    with contextlib.chdir(scratch) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        write("config.json", '{"subscription_id": "%s", "resource_group": "%s", "workspace_name": "%s"}' % (
            os.environ["MOORAGE_SUBSCRIPTION"], os.environ["MOORAGE_RESOURCE_GROUP"], os.environ["MOORAGE_WORKSPACE"]))
        found = MLClient.from_config(DefaultAzureCredential(), path=str(scratch))
    ws = found.workspaces.get(os.environ["MOORAGE_WORKSPACE"])
    assert ws.mlflow_tracking_uri.startswith("azureml://") and ws.discovery_url, ws
    assert os.environ["MOORAGE_WORKSPACE"] in [w.name for w in found.workspaces.list()]


@promise
def a_machine_is_attached_by_its_ssh_address():
    ssh = ent.VirtualMachineSshSettings(admin_username=ADDRESS.split("//")[1].split("@")[0], ssh_private_key_file=KEY, ssh_port=int(ADDRESS.rsplit(":", 1)[1]))
    vm = ent.VirtualMachineCompute(name=VM, resource_id=ADDRESS, ssh_settings=ssh, description="the test's machine", tags={"by": "test"})
    got = ml.compute.begin_attach(vm).result()
    assert got.provisioning_state == "Succeeded", got.provisioning_state
    got = ml.compute.get(VM)
    assert got.type == "virtualmachine" and got.resource_id == ADDRESS and got.description == "the test's machine", got
    assert got.ssh_settings.admin_password is None, "a secret came back"


@promise
def its_jobs_stay_outside_of_containers():
    """Azure's client names an image in every environment; here none can be pulled, and the machine's Python will do."""
    for compute in (VM, "local"):
        cli("compute", "update", compute, "--set", "containers=never")


@promise
def attaching_again_is_no_second_attachment():
    ssh = ent.VirtualMachineSshSettings(admin_username=ADDRESS.split("//")[1].split("@")[0], ssh_private_key_file=KEY, ssh_port=int(ADDRESS.rsplit(":", 1)[1]))
    ml.compute.begin_attach(ent.VirtualMachineCompute(name=VM, resource_id=ADDRESS, ssh_settings=ssh)).result()
    refused(lambda: ml.compute.begin_attach(ent.VirtualMachineCompute(name=name("two"), resource_id=ADDRESS, ssh_settings=ssh)).result(), "already attached", VM)


@promise
def a_machine_that_does_not_answer_is_told_at_once():
    ssh = ent.VirtualMachineSshSettings(admin_username="u", admin_password="p", ssh_port=1)
    began = time.monotonic()
    refused(lambda: ml.compute.begin_attach(ent.VirtualMachineCompute(name=name("gone"), resource_id="ssh://u@127.0.0.1:1", ssh_settings=ssh)).result())
    assert time.monotonic() - began < 30, "it took too long to say so"
    refused(lambda: ml.compute.begin_attach(ent.VirtualMachineCompute(
        name=name("unknown"), resource_id="/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/nowhere", ssh_settings=ssh)).result(), "address", "resource add")
    with contextlib.suppress(Exception):
        ml.compute.begin_delete(name("gone"), action="Detach").wait()


@promise
def kinds_that_are_not_built_say_so():
    spark = ent.SynapseSparkCompute(name=name("spark"), resource_id="/subscriptions/s/resourceGroups/g/providers/Microsoft.Synapse/workspaces/w/bigDataPools/p")
    refused(lambda: ml.compute.begin_attach(spark).result(), "SynapseSpark", "does not yet")


@promise
def amlcompute_is_an_alias_that_says_so():
    got = ml.compute.begin_create_or_update(ent.AmlCompute(name=ALIAS, size="STANDARD_DS3_V2", min_instances=0, max_instances=4)).result()
    assert got.provisioning_state == "Succeeded"
    got = ml.compute.get(ALIAS)
    assert got.type == "amlcompute" and "stands for" in got.description and got.max_instances == 4, got


@promise
def computes_are_listed():
    kinds = {c.name: c.type for c in ml.compute.list()}
    assert kinds[VM] == "virtualmachine" and kinds[ALIAS] == "amlcompute" and "local" in kinds, kinds
    try:
        ml.compute.get("nothing-there")
    except ResourceNotFoundError:
        return
    raise AssertionError("a compute that is not there was found")


# ---------------------------------------------------------------- assets
@promise
def environments_have_versions_and_a_latest_one():
    conda = write("conda.yaml", "name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n")
    for version in ("1", "2"):
        made = ml.environments.create_or_update(ent.Environment(name=name("env"), version=version, image="python:3.11", conda_file=conda, description="v" + version))
        assert made.version == version
    assert ml.environments.get(name("env"), label="latest").version == "2"
    assert [e.version for e in ml.environments.list(name=name("env"))] == ["2", "1"]
    unnumbered = ml.environments.create_or_update(ent.Environment(name=name("env"), image="python:3.12"))
    assert unnumbered.version == "3", unnumbered.version
    ml.environments.archive(name=name("env"), version="3")
    assert [e.version for e in ml.environments.list(name=name("env"))] == ["2", "1"]


@promise
def an_environment_may_be_the_machines_own():
    ml.environments.create_or_update(ent.Environment(name=name("plain"), version="1", image="python:3.11"))


@promise
def data_is_uploaded_and_comes_back():
    made = ml.data.create_or_update(ent.Data(name=name("csv"), version="1", path=write("d.csv", "a,b\n1,2\n"), type="uri_file"))
    assert "/paths/" in made.path, made.path
    write("folder/x/1.txt", "one")
    write("folder/2.txt", "two")
    folder = ml.data.create_or_update(ent.Data(name=name("folder"), version="1", path=str(scratch / "folder"), type="uri_folder"))
    assert ml.data.get(name("csv"), label="latest").version == "1"
    from azure.ai.ml._utils import _storage_utils  # noqa: F401  the client downloads with its own storage code
    from azure.ai.ml.operations._datastore_operations import DatastoreOperations  # noqa: F401
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri
    download_artifact_from_aml_uri(uri=folder.path, destination=str(scratch / "back"), datastore_operation=ml.datastores)
    back = sorted(str(p.relative_to(scratch / "back")) for p in (scratch / "back").rglob("*") if p.is_file())
    assert [b for b in back if b.endswith("x/1.txt")] and [b for b in back if b.endswith("2.txt")], back


@promise
def a_large_file_is_uploaded_in_blocks():
    big = scratch / "big.bin"
    block = os.urandom(1 << 20)
    with big.open("wb") as f:
        for _ in range(130):  # over the client's limit for a single PUT
            f.write(block)
    made = ml.data.create_or_update(ent.Data(name=name("big"), version="1", path=str(big), type="uri_file"))
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri
    download_artifact_from_aml_uri(uri=made.path, destination=str(scratch / "bigback"), datastore_operation=ml.datastores)
    got = next(p for p in (scratch / "bigback").rglob("*") if p.is_file())
    assert got.stat().st_size == 130 << 20 and got.read_bytes()[:1 << 20] == block


@promise
def models_are_registered_and_downloaded():
    write("model/m.txt", "weights")
    m = ml.models.create_or_update(ent.Model(name=name("model"), path=str(scratch / "model"), type="custom_model", tags={"a": "b"}))
    assert m.version == "1", m.version
    assert ml.models.create_or_update(ent.Model(name=name("model"), path=str(scratch / "model"), type="custom_model")).version == "2"
    ml.models.download(name("model"), "1", download_path=str(scratch / "modelback"))
    assert [p for p in (scratch / "modelback").rglob("m.txt")], list((scratch / "modelback").rglob("*"))


@promise
def the_default_datastore_is_named():
    assert ml.datastores.get_default().name == "workspaceblobstore"
    assert {d.name for d in ml.datastores.list()} >= {"workspaceblobstore", "workspaceartifactstore"}


# ---------------------------------------------------------------- jobs
def shell(job, line, compute=VM, **more):
    return command(name=job, command=line, environment=f"{name('plain')}:1", compute=compute, experiment_name=name("exp"), **more)


def train(job, compute, more="", **kwargs):
    return command(
        environment=f"{name('plain')}:1",
        name=job, display_name="train", experiment_name=name("exp"), code=str(CODE), compute=compute,
        command="python3 train.py --lr ${{inputs.lr}} --model ${{outputs.model}} " + more,
        inputs={"lr": 0.1, **kwargs.pop("inputs", {})}, outputs={"model": Output(type="uri_folder")},
        environment_variables={"A": "b c"}, tags={"kind": "test"}, **kwargs)


@promise
def a_command_job_runs_on_the_machine():
    job = name("train")
    made = ml.jobs.create_or_update(train(job, VM, "--seconds 3 --data ${{inputs.d}}", inputs={"d": Input(type="uri_file", path=f"azureml:{name('csv')}:1")}))
    assert made.name == job and made.services["Studio"].endpoint.startswith("https://"), made
    text = log_of(job)
    assert "hello from a snapshot lr 0.1 A b c" in text and "data: a,b" in text and "done" in text, text
    got = ml.jobs.get(job)
    assert got.status == "Completed" and got.experiment_name == name("exp") and got.tags == {"kind": "test"}, got


@promise
def outputs_and_logs_are_downloaded():
    ml.jobs.download(name("train"), download_path=str(scratch / "artifacts"))
    files = sorted(str(p.relative_to(scratch / "artifacts")) for p in (scratch / "artifacts").rglob("*") if p.is_file())
    assert [f for f in files if f.endswith("outputs/report.txt")] and [f for f in files if f.endswith("user_logs/std_log.txt")], files
    ml.jobs.download(name("train"), download_path=str(scratch / "named"), output_name="model")
    model = [p for p in (scratch / "named").rglob("model 1.txt")]
    assert model and model[0].read_text() == "weights" and model[0].parent.name == "größe", list((scratch / "named").rglob("*"))
    ml.jobs.download(name("train"), download_path=str(scratch / "all"), all=True)
    assert [p for p in (scratch / "all").rglob("model 1.txt")] and [p for p in (scratch / "all").rglob("report.txt")], list((scratch / "all").rglob("*"))


@promise
def the_same_code_is_uploaded_once():
    first = ml.jobs.get(name("train")).code
    job = name("again")
    ml.jobs.create_or_update(train(job, VM))
    assert ml.jobs.get(job).code == first, (ml.jobs.get(job).code, first)
    assert wait(job) == "Completed"


@promise
def jobs_run_on_the_alias_on_local_and_without_a_compute():
    for job, compute in ((name("on-alias"), ALIAS), (name("on-local"), "local"), (name("on-default"), None)):
        ml.jobs.create_or_update(train(job, compute))
        assert wait(job) == "Completed", job
        assert "done" in log_at_end(job)


@promise
def one_jobs_output_is_anothers_input():
    job = name("chained")
    given = Input(type="uri_folder", path=f"azureml://jobs/{name('train')}/outputs/model")
    ml.jobs.create_or_update(train(job, VM, "--data ${{inputs.d}}", inputs={"d": given}))
    assert wait(job) == "Completed"
    assert "data: ['größe']" in log_at_end(job), log_at_end(job)


@promise
def a_job_that_fails_says_why():
    job = name("fails")
    ml.jobs.create_or_update(shell(job, "echo about to fail; exit 7"))
    try:
        log_of(job)
        raise AssertionError("streaming a failed job did not raise")
    except Exception as e:  # the client has a class of its own for it
        assert "7" in str(e), e
    assert ml.jobs.get(job).status == "Failed"


@promise
def a_running_job_is_canceled():
    job = name("long")
    ml.jobs.create_or_update(train(job, VM, "--seconds 600"))
    wait(job, ("Running",))
    ml.jobs.begin_cancel(job).wait()
    assert wait(job, seconds=60) == "Canceled"
    ml.jobs.begin_cancel(job).wait()  # over already: nothing happens


@promise
def a_log_is_streamed_while_the_job_runs():
    job = name("slow")
    ml.jobs.create_or_update(shell(job, "for i in 1 2 3 4 5 6; do echo tick $i; sleep 1; done"))
    text = log_of(job)
    assert "tick 1" in text and "tick 6" in text and "Streaming user_logs/std_log.txt" in text, text


@promise
def jobs_are_listed_described_and_archived():
    names = [j.name for j in ml.jobs.list()]
    assert names.index(name("slow")) < names.index(name("train")), "the newest does not come first"
    job = ml.jobs.get(name("train"))
    job.display_name, job.tags = "renamed", {"kind": "test", "more": "1"}
    ml.jobs.create_or_update(job)
    got = ml.jobs.get(name("train"))
    assert got.display_name == "renamed" and got.tags["more"] == "1", got.tags
    ml.jobs.archive(name("fails"))
    assert name("fails") not in [j.name for j in ml.jobs.list()]
    ml.jobs.restore(name("fails"))
    assert name("fails") in [j.name for j in ml.jobs.list()]


@promise
def instance_types_mean_something_on_a_machine_too():
    cli("compute", "update", VM, "--set", "instance_types.small.cpus=1", "--set", "instance_types.small.memory=64Mi")
    job = shell(name("typed"), "echo typed", instance_type="small")
    made = ml.jobs.create_or_update(job)
    assert made.resources.instance_type == "small" and wait(name("typed")) == "Completed", made
    refused(lambda: ml.jobs.create_or_update(shell(name("huge"), "true", instance_type="huge")), "huge", VM, "small")
    cli("compute", "update", VM, "--set", "instance_types=null")
    ml.jobs.create_or_update(shell(name("sized"), "echo sized", instance_type="Standard_NC6"))  # a size of Azure's: without meaning
    assert wait(name("sized")) == "Completed"


@promise
def processes_of_a_job_find_each_other():
    job = name("ranks")
    ml.jobs.create_or_update(shell(job, "echo rank $RANK of $WORLD_SIZE", distribution=PyTorchDistribution(process_count_per_instance=2)))
    assert wait(job) == "Completed"
    ml.jobs.download(job, download_path=str(scratch / job))
    text = "".join(p.read_text() for p in (scratch / job).rglob("*") if p.is_file())
    assert "rank 0 of 2" in text and "rank 1 of 2" in text, text


@promise
def several_machines_are_not_one():
    refused(lambda: ml.jobs.create_or_update(shell(name("nodes"), "true", instance_count=2)), VM, "instance_count")
    refused(lambda: ml.jobs.create_or_update(shell(name("ps"), "true", distribution=TensorFlowDistribution(worker_count=1, parameter_server_count=1))), "parameter_server_count")


@promise
def a_registrys_password_is_kept_and_not_shown():
    from azure.ai.ml.entities import UsernamePasswordConfiguration, WorkspaceConnection
    secret = UsernamePasswordConfiguration(username="bob", password="Pa55-of-the-registry")
    made = ml.connections.create_or_update(WorkspaceConnection(name=name("registry"), type="container_registry", target="registry.example", credentials=secret))
    assert made.name == name("registry"), made
    got = ml.connections.get(name("registry"))
    assert got.target == "registry.example" and got.type == "container_registry" and got.credentials.username == "bob", got
    assert not got.credentials.password, "a secret came back"
    assert name("registry") in [c.name for c in ml.connections.list(connection_type="container_registry")]
    ml.connections.delete(name("registry"))
    assert name("registry") not in [c.name for c in ml.connections.list()]


@promise
def kinds_of_jobs_that_are_not_built_say_so():
    from azure.ai.ml.sweep import Uniform
    trial = command(command="python3 train.py --lr ${{inputs.lr}}", code=str(CODE), environment=f"{name('env')}:1", compute=VM, inputs={"lr": 0.1})
    sweep = trial(lr=Uniform(0.1, 0.9)).sweep(compute=VM, sampling_algorithm="random", primary_metric="acc", goal="Maximize")
    sweep.set_limits(max_total_trials=2)
    sweep.name = name("sweep")
    refused(lambda: ml.jobs.create_or_update(sweep), "sweep")


@promise
def jobs_that_cannot_work_are_refused_at_submit():
    refused(lambda: ml.jobs.create_or_update(shell(name("bad2"), "echo", "not-attached")), "not-attached")


# ---------------------------------------------------------------- the end
@promise
def detaching_leaves_the_machine_and_its_name_is_free():
    ml.compute.begin_delete(ALIAS).wait()
    ml.compute.begin_delete(VM, action="Detach").wait()
    assert VM not in [c.name for c in ml.compute.list()] and ALIAS not in [c.name for c in ml.compute.list()]
    ml.compute.begin_delete(VM).wait()  # absent: nothing happens
    assert ml.jobs.get(name("train")).status == "Completed", "the jobs are gone with the compute"


def main(wanted):
    broken = []
    for p in PROMISES:
        if wanted and not any(w in p.__name__ for w in wanted):
            continue
        began = time.monotonic()
        try:
            p()
            print(f"kept    {p.__name__}  {time.monotonic() - began:.1f} s", flush=True)
        except Exception as e:  # every promise is tried
            broken.append(p.__name__)
            print(f"BROKEN  {p.__name__}  {type(e).__name__}: {str(e)[:1500]}", flush=True)
            if os.environ.get("TRACE"):
                traceback.print_exc()
    print(f"{len(PROMISES) - len(broken)} kept, broken: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[3:]))
