"""What azureml-core made, seen by azure-ai-ml and by MLflow; then things that they make, for azureml-core to see.

Usage: look.py JSON     {"run", "experiment", "model", "environment"}: names of what azureml-core made

It runs in the virtual environment of test/clients/requirements.txt. Its last line is JSON again: the names of what it made.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
import uuid

import mlflow
from azure.ai.ml import MLClient, command
from azure.ai.ml import entities as ent
from azure.identity import DefaultAzureCredential
from mlflow import MlflowClient

made = json.loads(sys.argv[1])
ml = MLClient(
    DefaultAzureCredential(), os.environ["MOORAGE_SUBSCRIPTION"], os.environ["MOORAGE_RESOURCE_GROUP"], os.environ["MOORAGE_WORKSPACE"])
scratch = pathlib.Path(tempfile.mkdtemp())
mark = uuid.uuid4().hex[:6]


def mlflow_sees_the_run():
    client = MlflowClient()
    run = client.get_run(made["run"])
    assert run.info.status == "FINISHED", run.info
    assert client.get_experiment(run.info.experiment_id).name == made["experiment"]
    values = {k: run.data.metrics.get(k) for k in ("loss", "accuracy", "last")}
    assert values == {"loss": 1 / 3, "accuracy": 0.5, "last": 1.0}, run.data.metrics
    history = client.get_metric_history(made["run"], "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)], history
    assert run.data.tags["stage"] == "trained" and run.data.tags["from"] == "the document", run.data.tags
    paths = list(files(client, made["run"]))
    for wanted in ("outputs/model.txt", "logs/own.txt", "uploaded/notes 1.txt"):
        assert wanted in paths, (wanted, paths)
    assert [p for p in paths if "pixel.png" in p], paths
    tables = [p for p in paths if "table" in p or "matrix" in p]
    assert tables, f"what is no scalar is no artifact: {paths}"
    where = mlflow.artifacts.download_artifacts(run_id=made["run"], artifact_path="outputs/model.txt", dst_path=str(scratch))
    assert pathlib.Path(where).read_text().startswith("coefficient")
    children = mlflow.search_runs(
        experiment_names=[made["experiment"]], filter_string=f"tags.mlflow.parentRunId = '{made['run']}'", output_format="list")
    assert [c.data.metrics for c in children] == [{"score": 3.0}], children


def files(client, run, below=None):
    for f in client.list_artifacts(run, below):
        yield from files(client, run, f.path) if f.is_dir else [f.path]


def azure_ai_ml_sees_the_run():
    job = ml.jobs.get(made["run"])
    assert job.status == "Completed" and job.experiment_name == made["experiment"] and job.tags["stage"] == "trained", job
    assert "train.py" in job.command and job.compute.endswith("attach-dsvm"), (job.command, job.compute)
    assert made["run"] in [j.name for j in ml.jobs.list()]
    ml.jobs.download(made["run"], download_path=str(scratch / "job"))
    assert [p for p in (scratch / "job").rglob("model.txt")], list((scratch / "job").rglob("*"))


def azure_ai_ml_sees_the_assets():
    assert ml.compute.get("attach-dsvm").type == "virtualmachine"
    m = ml.models.get(made["model"], version="1")
    assert m.tags == {"a": "b"}, m
    ml.models.download(made["model"], "1", download_path=str(scratch / "model"))
    assert [p for p in (scratch / "model").rglob("*") if p.is_file() and p.read_text().startswith("coefficient")]
    env = ml.environments.get(made["environment"], version="1")
    assert env.image and "six" in str(env.conda_file), env


def azure_ai_ml_makes_a_job():
    name = "v2-" + mark
    env = ml.environments.create_or_update(ent.Environment(name="plain-" + mark, image="python:3.11"))
    ml.jobs.create_or_update(command(
        name=name, display_name="made by v2", experiment_name="of-v2", compute="attach-dsvm", environment=f"{env.name}:{env.version}", tags={"kind": "v2"},
        command="mkdir -p outputs && echo made by v2 > outputs/v2.txt && echo printed by v2"))
    end = time.monotonic() + 60
    while ml.jobs.get(name).status not in ("Completed", "Failed", "Canceled"):
        assert time.monotonic() < end, ml.jobs.get(name).status
        time.sleep(0.2)
    assert ml.jobs.get(name).status == "Completed"
    return name


def mlflow_makes_a_run():
    mlflow.set_experiment("of-mlflow")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.5, step=0)
        mlflow.log_metric("loss", 0.25, step=1)
        mlflow.log_metric("acc", 0.9)
        mlflow.set_tag("stage", "mlflow")
        mlflow.log_text("notes", "notes.txt")
    mlflow.set_experiment("two words")
    with mlflow.start_run() as blank:
        mlflow.log_metric("loss", 1)
    return run.info.run_id, blank.info.run_id


def azure_ai_ml_makes_assets():
    (scratch / "m").mkdir()
    (scratch / "m" / "m.txt").write_text("weights of v2")
    m = ml.models.create_or_update(ent.Model(name="v2-model-" + mark, path=str(scratch / "m"), type="custom_model", tags={"by": "v2"}))
    (scratch / "conda.yml").write_text("name: x\nchannels: [conda-forge]\ndependencies:\n- python=3.11\n- pip:\n  - six\n")
    env = ml.environments.create_or_update(ent.Environment(name="v2-env-" + mark, version="1", image="python:3.11", conda_file=str(scratch / "conda.yml")))
    return m.name, env.name


for see in (mlflow_sees_the_run, azure_ai_ml_sees_the_run, azure_ai_ml_sees_the_assets):
    see()
job, (run, blank), (model, environment) = azure_ai_ml_makes_a_job(), mlflow_makes_a_run(), azure_ai_ml_makes_assets()
print(json.dumps({"job": job, "run": run, "blank": blank, "model": model, "environment": environment}))
