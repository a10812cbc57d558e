"""Runs are one thing: what azureml-core made is seen by azure-ai-ml and MLflow, and the reverse."""

import pathlib

from azureml.core import Experiment, Model, Run
from azureml.core.environment import Environment

import training
from kit import ask, promise, refused
from machine import ws

made = None  # by azure-ai-ml and MLflow


@promise
def mlflow_and_azure_ai_ml_see_what_was_made():
    global made
    made = ask("look", run=training.run.id, experiment=training.experiment.name, model="from-run", environment="own-env")


@promise
def a_job_of_azure_ai_ml_is_a_run():
    run = Run.get(ws(), made["job"])
    assert run.get_status() == "Completed" and run.display_name == "made by v2", (run.get_status(), run.display_name)
    assert run.get_tags().get("kind") == "v2", run.get_tags()
    assert "outputs/v2.txt" in run.get_file_names(), run.get_file_names()
    run.download_file("outputs/v2.txt", "v2.txt")
    assert pathlib.Path("v2.txt").read_text() == "made by v2\n"
    assert "printed by v2" in training.log(run)


@promise
def a_run_of_mlflow_is_a_run():
    run = Run.get(ws(), made["run"])
    assert run.get_status() == "Completed", run.get_status()
    assert run.get_metrics() == {"loss": [0.5, 0.25], "acc": 0.9}, run.get_metrics()
    assert run.get_tags()["stage"] == "mlflow", run.get_tags()
    assert "notes.txt" in run.get_file_names(), run.get_file_names()


@promise
def an_experiment_whose_name_has_blanks_is_opened_from_the_list():
    """The client refuses to make an Experiment of such a name itself, and Run.get makes one."""
    refused(lambda: Experiment(ws(), "two words"), "whitespace")
    run, = ws().experiments["two words"].get_runs()
    assert run.id == made["blank"] and run.get_metrics() == {"loss": 1}, (run.id, run.get_metrics())
    run.tag("a", "b")
    assert run.get_tags()["a"] == "b" and run.get_status() == "Completed", (run.get_tags(), run.get_status())


@promise
def a_model_and_an_environment_of_azure_ai_ml_are_there():
    m = Model(ws(), made["model"])
    assert m.version == 1 and m.tags == {"by": "v2"}, m.serialize()
    where = pathlib.Path(m.download("by-v2", exist_ok=True))
    assert "weights of v2" in [p.read_text() for p in ([where] if where.is_file() else where.rglob("*")) if p.is_file()], where
    env = Environment.get(ws(), made["environment"])
    assert env.version == "1" and "six" in env.python.conda_dependencies.serialize_to_string(), env
