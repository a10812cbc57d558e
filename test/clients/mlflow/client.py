"""MLflow's own client against a running server: every call of tracking and artifacts, as a training script makes them.

Usage: client.py TRACKING_URI       (credentials from MLFLOW_TRACKING_TOKEN; needs mlflow-skinny)

Each check is a function that states a promise. The first that fails ends the script with its traceback.
"""

import math
import os
import sys
import tempfile
import time
import uuid

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag, ViewType,
)
from mlflow.exceptions import MlflowException

NAME = "exam-" + uuid.uuid4().hex[:8]


def refused(code, call, *args, **kwargs):
    """The call must fail with this error code, and at once: a 5xx would be retried for minutes."""
    began = time.monotonic()
    try:
        call(*args, **kwargs)
    except MlflowException as e:
        assert e.error_code == code, f"{e.error_code}: {e}"
        assert time.monotonic() - began < 5, "the client retried"
        return str(e)
    raise AssertionError(f"{call} was not refused")


def training_script_of_the_readme(client):
    experiment = mlflow.set_experiment(NAME)
    assert mlflow.set_experiment(NAME).experiment_id == experiment.experiment_id
    with mlflow.start_run() as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "name": "größe"})
        mlflow.log_metric("loss", 0.5, step=0)
        mlflow.log_metrics({"loss": 0.25, "acc": 0.9}, step=1)
        mlflow.set_tag("stage", "test")
        mlflow.set_tags({"a": "1", "b": "2"})
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"x": [1, 2]}, "conf.json")
    got = mlflow.get_run(run.info.run_id)
    assert got.info.status == "FINISHED" and got.info.end_time >= got.info.start_time
    assert got.data.params == {"lr": "0.1", "depth": "3", "name": "größe"}
    assert got.data.metrics == {"loss": 0.25, "acc": 0.9}
    assert got.data.tags["stage"] == "test" and got.data.tags["mlflow.runName"] == got.info.run_name
    assert mlflow.artifacts.load_text(got.info.artifact_uri + "/notes/hello.txt") == "hello"
    assert mlflow.artifacts.load_dict(got.info.artifact_uri + "/conf.json") == {"x": [1, 2]}


def nested_runs_know_their_parent(client):
    with mlflow.start_run(run_name="parent") as parent:
        for i in range(3):
            with mlflow.start_run(run_name=f"child-{i}", nested=True):
                mlflow.log_metric("score", i)
        with mlflow.start_run(nested=True):
            pass
    children = mlflow.search_runs(
        experiment_names=[NAME], filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}' AND metrics.score >= 1",
        order_by=["metrics.score DESC"], output_format="list")
    assert [c.info.run_name for c in children] == ["child-2", "child-1"]
    try:
        with mlflow.start_run(run_name="broken") as broken:
            raise ValueError
    except ValueError:
        pass
    assert mlflow.get_run(broken.info.run_id).info.status == "FAILED"


def metrics_keep_their_history(client):
    run = client.create_run(client.get_experiment_by_name(NAME).experiment_id)
    rid = run.info.run_id
    for step, value in enumerate([1.0, math.nan, math.inf, -math.inf, 2.0]):
        client.log_metric(rid, "m", value, timestamp=1000 + step, step=step)
    client.log_metric(rid, "m", 1.0, timestamp=1000, step=0)
    history = client.get_metric_history(rid, "m")
    assert [h.step for h in history] == [0, 1, 2, 3, 4]
    assert math.isnan(history[1].value) and history[2].value > 1e308 and history[3].value < -1e308
    assert client.get_run(rid).data.metrics["m"] == 2.0
    assert client.get_metric_history(rid, "unknown") == []
    client.log_batch(rid, metrics=[Metric("many", i * 0.5, 2000 + i, i) for i in range(1000)])
    assert len(client.get_metric_history(rid, "many")) == 1000
    client.log_batch(rid, params=[Param(f"p{i}", str(i)) for i in range(100)], tags=[RunTag(f"t{i}", "x") for i in range(100)])
    data = client.get_run(rid).data
    assert len(data.params) == 100 and data.tags["t99"] == "x" and data.metrics["many"] == 499.5
    with mlflow.start_run(run_id=rid):
        for i in range(20):
            mlflow.log_metric("async", i, step=i, synchronous=False)
        mlflow.flush_async_logging()
    assert len(client.get_metric_history(rid, "async")) == 20


def searches_find_what_they_say(client):
    experiment = client.create_experiment(NAME + "-search", tags={"team": "blue"})
    runs = {}
    for name, m, opt, user in [("a", 0.1, "Adam", "ann"), ("b", 0.5, "adam", "bob"), ("c", math.nan, "SGD", "ann"), ("d", None, None, "dan")]:
        run = client.create_run(experiment, run_name=name, start_time=1000 + len(runs), tags={"mlflow.user": user, "odd key/x": name})
        runs[name] = run.info.run_id
        if m is not None:
            client.log_metric(run.info.run_id, "val acc", m)
            client.log_param(run.info.run_id, "opt", opt)
    client.set_terminated(runs["b"], "KILLED", end_time=5000)

    def find(text="", order=("attributes.start_time ASC",), view=ViewType.ACTIVE_ONLY):
        return "".join(r.info.run_name for r in client.search_runs([experiment], text, view, order_by=list(order)))

    for text, want in {
        "": "abcd", "metrics.`val acc` < 1": "ab", "metrics.`val acc` != 0.1": "bc", "params.opt = 'Adam'": "a",
        "params.opt LIKE '%dam'": "ab", "params.opt LIKE 'A%'": "a", "params.opt ILIKE 'ADAM'": "ab", "params.opt != 'SGD'": "ab",
        "tags.mlflow.user = 'ann'": "ac", 'tags."odd key/x" = "d"': "d", "attributes.status = 'KILLED'": "b", "status != 'KILLED'": "acd",
        "end_time = 5000": "b", "start_time > 1001": "cd", "run_name IN ('x')": None, f"run_id IN ('{runs['a']}', '{runs['d']}')": "ad",
        f"attributes.run_id NOT IN ('{runs['a']}')": "bcd", "params.opt IS NULL": "d", "params.opt IS NOT NULL and metrics.`val acc` > 0": "ab",
        "params.opt = 'Adam' AND tags.mlflow.user LIKE 'a%'": "a", "run_name = 'c'": "c", "attr.`Run name` = 'c'": "c",
        "metrics.m = 'x'": None, "params.opt = 1": None, "a OR b": None, "metrics.m RLIKE 'x'": None,
    }.items():
        if want is None:
            refused("INVALID_PARAMETER_VALUE", find, text)
        else:
            assert find(text) == want, f"{text}: {find(text)}"
    assert find(order=["metrics.`val acc` DESC"]) == "bacd"
    assert find(order=["params.opt", "run_name DESC"]) == "acbd"
    refused("INVALID_PARAMETER_VALUE", find, "", ["start_time", "start_time"])
    page = client.search_runs([experiment], max_results=3)
    assert len(page) == 3 and page.token
    rest = client.search_runs([experiment], max_results=3, page_token=page.token)
    assert len(rest) == 1 and not rest.token
    refused("INVALID_PARAMETER_VALUE", client.search_runs, [experiment], page_token="?")
    client.delete_run(runs["a"])
    assert find() == "bcd" and find(view=ViewType.DELETED_ONLY) == "a" and find(view=ViewType.ALL) == "abcd"
    client.restore_run(runs["a"])
    client.restore_run(runs["a"])
    assert find() == "abcd"
    found = client.search_experiments(filter_string=f"name LIKE '{NAME}%' AND tags.team = 'blue'")
    assert [e.experiment_id for e in found] == [experiment]
    assert {e.name for e in client.search_experiments(filter_string=f"name ILIKE '{NAME.upper()}%'", order_by=["name"])} == {NAME, NAME + "-search"}


def experiments_live_and_die(client):
    experiment = client.create_experiment(NAME + "-life")
    run = client.create_run(experiment)
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, NAME + "-life")
    client.rename_experiment(experiment, NAME + "-life2")
    client.set_experiment_tag(experiment, "k", "v")
    client.set_experiment_tag(experiment, "k", "w")
    assert client.get_experiment(experiment).tags == {"k": "w"} and client.get_experiment(experiment).name == NAME + "-life2"
    client.delete_experiment_tag(experiment, "k")
    client.delete_experiment(experiment)
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    refused("INVALID_PARAMETER_VALUE", client.create_run, experiment)
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, NAME + "-life2")
    assert experiment in [e.experiment_id for e in client.search_experiments(view_type=ViewType.DELETED_ONLY)]
    client.restore_experiment(experiment)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"
    assert client.get_experiment_by_name("no such experiment " + NAME) is None
    assert client.get_experiment("0").name == "Default"


def mistakes_are_refused_at_once(client):
    rid = client.create_run("0").info.run_id
    refused("RESOURCE_DOES_NOT_EXIST", client.get_run, uuid.uuid4().hex)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_experiment, "987654321")
    refused("RESOURCE_DOES_NOT_EXIST", client.delete_tag, rid, "absent")
    client.log_param(rid, "p", 1)
    client.log_param(rid, "p", 1)
    assert "Changing param values is not allowed" in refused("INVALID_PARAMETER_VALUE", client.log_param, rid, "p", 2)
    refused("INVALID_PARAMETER_VALUE", client.set_tag, rid, "../x", "v")
    client.set_tag(rid, "mlflow.runName", "renamed")
    assert client.get_run(rid).info.run_name == "renamed"
    client.update_run(rid, status="KILLED", name="again")
    run = client.get_run(rid)
    assert run.info.run_name == "again" == run.data.tags["mlflow.runName"] and run.info.status == "KILLED"
    client.delete_run(rid)
    assert client.get_run(rid).info.lifecycle_stage == "deleted"
    refused("INVALID_PARAMETER_VALUE", client.log_metric, rid, "m", 1)


def inputs_and_outputs_are_kept(client):
    rid = client.create_run("0").info.run_id
    dataset = Dataset(name="ds", digest="dg", source_type="local", source='{"uri": "x"}', schema="{}", profile="{}")
    client.log_inputs(rid, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    client.log_inputs(rid, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    client.log_outputs(rid, [LoggedModelOutput("m-" + "0" * 32, 3)])
    run = client.get_run(rid)
    [used] = run.inputs.dataset_inputs
    assert used.dataset.name == "ds" and used.tags[0].value == "train"
    assert run.outputs.model_outputs[0].step == 3
    assert len(client.search_runs(["0"], "dataset.name = 'ds' AND dataset.context = 'train'")) >= 1


def artifacts_come_back_as_they_went(client):
    rid = client.create_run("0").info.run_id
    with tempfile.TemporaryDirectory() as folder:
        tree = os.path.join(folder, "tree")
        os.makedirs(os.path.join(tree, "sub folder"))
        content = {"a.bin": os.urandom(3 << 20), "sub folder/ü 100%.txt": b"text", "sub folder/empty": b""}
        for name, data in content.items():
            with open(os.path.join(tree, name), "wb") as f:
                f.write(data)
        client.log_artifacts(rid, tree, "put")
        client.log_artifact(rid, os.path.join(tree, "a.bin"))
        assert {(f.path, f.is_dir) for f in client.list_artifacts(rid)} == {("a.bin", False), ("put", True)}
        listed = client.list_artifacts(rid, "put/sub folder")
        assert sorted(f.path for f in listed) == ["put/sub folder/empty", "put/sub folder/ü 100%.txt"]
        assert client.list_artifacts(rid, "a.bin") == [] and client.list_artifacts(rid, "nothing") == []
        back = client.download_artifacts(rid, "put", os.path.join(folder))
        for name, data in content.items():
            with open(os.path.join(back, name), "rb") as f:
                assert f.read() == data, name
    try:
        client.download_artifacts(rid, "absent")
    except Exception:  # its type depends on the client's artifact repository
        return
    raise AssertionError("an absent artifact was downloaded")


def main():
    uri = sys.argv[1]
    mlflow.set_tracking_uri(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    client = MlflowClient()
    for promise in [
        training_script_of_the_readme, nested_runs_know_their_parent, metrics_keep_their_history, searches_find_what_they_say,
        experiments_live_and_die, mistakes_are_refused_at_once, inputs_and_outputs_are_kept, artifacts_come_back_as_they_went,
    ]:
        began = time.monotonic()
        promise(client)
        print(f"ok {promise.__name__} {time.monotonic() - began:.2f}s", flush=True)
    print("all kept")


if __name__ == "__main__":
    main()
