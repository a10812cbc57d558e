"""Runs on the machine: what came of the training, and how runs end."""

import os
import pathlib
import time

from azureml.core import Dataset, Experiment, Run
from azureml.data import OutputFileDatasetConfig
from azureml.exceptions import ActivityFailedException

import data
import training
from kit import CODE, Later, ask, promise, refused, until
from machine import NAME, ws
from training import config, log, plain

across = None  # a run and how it is followed, while the server is killed
renewing = many = submitting = None  # further runs that are waited for later
streamed = ""  # what was printed while the training was waited for


@promise
def the_training_streams_and_completes():
    run = training.run
    global streamed
    output, _ = training.streaming.result(180)
    streamed = output
    assert "Streaming user_logs/std_log.txt" in output, output
    for line in (f"training run {run.id} with 3.", "on standard error", "from the run: trained the-document_1", "Execution Summary"):
        assert line in output, output
    assert run.get_status() == "Completed", run.get_status()


@promise
def more_runs_are_started_meanwhile():
    global across, renewing, many, submitting
    experiment = training.experiment
    gate = experiment.submit(config("wait.py", 12, env=plain()))
    across = gate, Later(lambda: gate.wait_for_completion(show_output=True))
    many = experiment.submit(config("many.py"))
    renewing = experiment.submit(config("renew.py"))
    submitting = experiment.submit(config("submit.py", NAME))


@promise
def the_server_is_killed_while_runs_go_on_and_are_waited_for():
    run, _ = across
    until("it runs", lambda: run.get_status() == "Running")
    ask("restart")
    assert run.get_status() == "Running", run.get_status()


@promise
def what_the_training_logged_is_read():
    got = training.run.get_metrics()
    assert got["loss"] == [1.0, 0.5, 1 / 3] and got["accuracy"] == 0.5 and got["kind"] == "ridge", got
    assert got["list"] == [1, 2, 3] and got["row"] == {"x": [1, 3], "y": [2, 4]}, got
    assert got["table"] == {"x": [1, 2, 3], "y": [0.1, 0.2, 0.3]} and got["last"] == 1, got
    assert {"matrix", "table of accuracy", "a picture"} <= set(got), got
    assert training.run.get_metrics(name="loss") == {"loss": [1.0, 0.5, 1 / 3]}


@promise
def what_the_training_wrote_comes_home():
    run = training.run
    names = set(run.get_file_names())
    assert {"outputs/model.txt", "outputs/größe/x y.txt", "logs/own.txt", "pixel.png", "uploaded/notes 1.txt", "folder/1.txt", "user_logs/std_log.txt"} <= names, names
    run.download_file("outputs/model.txt", output_file_path="model.txt")
    assert pathlib.Path("model.txt").read_text().startswith("coefficient")
    run.download_files(prefix="outputs", output_directory="home")
    assert [p for p in pathlib.Path("home").rglob("x y.txt") if p.read_text() == "blank"]
    logs = run.get_all_logs(destination="all-logs")
    assert [p for p in logs if p.endswith("std_log.txt")], logs
    run.download_file("pixel.png", "picture.png")
    assert pathlib.Path("picture.png").read_bytes()[:4] == b"\x89PNG"


@promise
def the_run_tells_how_it_was():
    run = training.run
    details = run.get_details()
    assert details["runId"] == run.id and details["target"] == "attach-dsvm" and details["status"] == "Completed", details
    assert details["startTimeUtc"] <= details["endTimeUtc"] and details["runDefinition"]["script"] == "train.py", details
    assert "user_logs/std_log.txt" in details["logFiles"], details["logFiles"]
    assert "training run" in log(run)
    got = Run.get(ws(), run.id)
    tags = got.get_tags()
    assert tags["from"] == "the document" and tags["stage"] == "trained" and tags["a"] == "1", tags
    assert got.get_properties()["author"] == "the test" and got.type == "azureml.scriptrun", (got.get_properties(), got.type)
    children = list(got.get_children())
    assert len(children) == 1 and children[0].name.endswith("child") and children[0].get_metrics() == {"score": 3}, children
    assert run.id in [r.id for r in Run.list(training.experiment, status="Completed")]


@promise
def the_log_says_how_the_environment_was_made():
    names = training.run.get_file_names()
    logs = [n for n in names if n.startswith(("azureml-logs/", "system_logs/", "user_logs/", "logs/"))]
    text = ""
    for name in logs:
        training.run.download_file(name, "a-log.txt")
        text += pathlib.Path("a-log.txt").read_text()
    assert "scikit-learn" in text, (logs, text)
    # What a person should know of it is said at the end of what is streamed, whatever the log was when the client looked.
    for warning in [part for line in text.splitlines() for part in line.split("; ") if part.startswith("warning: ")]:
        assert warning.removeprefix("warning: ") in streamed.split("Execution Summary")[1], (warning, streamed)
    assert "environment by uv" not in text or "from PyPI instead of conda: scikit-learn" in streamed, (text, streamed)


@promise
def the_environment_and_the_code_of_a_run_come_back():
    env = training.run.get_environment()
    assert env.name == "myenv" and "scikit-learn" in env.python.conda_dependencies.serialize_to_string(), env
    where = training.run.restore_snapshot(path=".")
    assert where, where
    import zipfile
    archive = [p for p in ([pathlib.Path(where)] + list(pathlib.Path(".").rglob("*.zip"))) if p.is_file() and zipfile.is_zipfile(p)]
    if archive:
        names = zipfile.ZipFile(archive[0]).namelist()
    else:
        names = [str(p) for p in pathlib.Path(where).rglob("*")]
    assert [n for n in names if n.endswith("train.py")] and [n for n in names if n.endswith("lib/1.txt")], names


@promise
def a_model_is_registered_from_a_run():
    m = training.run.register_model("from-run", model_path="outputs/model.txt", tags={"a": "b"})
    assert m.version == 1 and m.run_id == training.run.id, m.serialize()
    assert pathlib.Path(m.download("back-run", exist_ok=True)).read_text().startswith("coefficient")
    folder = training.run.register_model("folder-of-run", model_path="outputs")
    where = pathlib.Path(folder.download("back-folder-of-run", exist_ok=True))
    assert [p for p in where.rglob("x y.txt")], list(where.rglob("*"))
    refused(lambda: training.run.register_model("none", model_path="outputs/nothing.pkl"), "nothing.pkl")


@promise
def the_same_code_goes_up_once_and_a_changed_file_alone():
    """The client asks the server for nothing when nothing changed, and sends what changed."""
    before = training.run.get_snapshot_id()
    with open(CODE + "/wait.py", "a") as f:
        f.write("print('changed')\n")
    run = training.experiment.submit(config("wait.py", 0, env=plain()))
    run.wait_for_completion()
    assert "changed" in log(run) and run.get_snapshot_id() != before, log(run)
    again = training.experiment.submit(config("wait.py", 0, env=plain()))
    assert again.get_snapshot_id() == run.get_snapshot_id()
    again.wait_for_completion()


@promise
def polling_went_on_when_the_server_was_killed():
    run, waiting = across
    output, _ = waiting.result(90)
    assert run.get_status() == "Completed", run.get_status()
    assert "line 0" in output and "the end" in output, output


@promise
def a_job_logs_ten_thousand_values():
    many.wait_for_completion()
    assert many.get_status() == "Completed" and "logged in" in log(many), log(many)
    got = many.get_metrics()["many"]
    assert len(got) == 10_000 and sorted(got) == list(range(10_000)), len(got)


@promise
def a_script_that_fails_says_why_and_keeps_what_it_logged():
    run = training.experiment.submit(config("fail.py"))
    text = refused(lambda: run.wait_for_completion(show_output=True), "exit", kind=ActivityFailedException, within=120)
    assert run.get_status() == "Failed", text
    assert run.get_details()["error"]["error"]["code"], run.get_details()
    said = log(run)
    assert "about to fail" in said and "ValueError: the data is wrong" in said, said
    assert run.get_metrics() == {"before": 1}, run.get_metrics()


@promise
def a_running_script_is_canceled():
    run = training.experiment.submit(config("wait.py", 300, env=plain()))
    until("it runs", lambda: run.get_status() == "Running")
    run.cancel()
    until("it is canceled", lambda: run.get_status() == "Canceled")
    began = time.monotonic()
    run.wait_for_completion(show_output=True, raise_on_error=False)
    assert time.monotonic() - began < 20
    assert run.get_details()["status"] == "Canceled"


@promise
def a_run_on_the_machine_is_not_ended_by_a_client():
    """Its state is that of the job; a client that says otherwise is not believed (and says so to nobody)."""
    run = training.experiment.submit(config("wait.py", 3, env=plain()))
    Run.get(ws(), run.id).complete()
    assert run.get_status() not in ("Completed", "Failed"), run.get_status()
    run.wait_for_completion()
    assert run.get_status() == "Completed"


@promise
def a_script_that_is_not_there_is_refused_or_fails_in_plain_words():
    def submit():
        run = Experiment(ws(), "missing").submit(config("nowhere.py", env=plain()))
        run.wait_for_completion()

    refused(submit, "nowhere.py", within=60)


@promise
def a_job_gets_files_and_gives_files():
    data.runtime()
    ds = ws().get_default_datastore()
    files, one = Dataset.File.from_files([(ds, "tab/")]), Dataset.File.from_files((ds, "tab/a.csv"))
    made = OutputFileDatasetConfig(name="made", destination=(ds, "made/{run-id}")).register_on_complete("made by a job")
    run = training.experiment.submit(config(
        "data.py", files.as_named_input("folder").as_mount(), one.as_named_input("single").as_download(), made))
    run.wait_for_completion()
    output = log(run)
    listed = sorted({n.split("/")[0] for n in data.FILES})
    assert f"input folder {listed}" in output and "input single x,y" in output and f"argument {listed}" in output, output
    got = Dataset.get_by_name(ws(), "made by a job")
    assert [os.path.basename(p) for p in got.to_path()] == ["made.txt"], got.to_path()
    details = run.get_details()
    assert len(details["inputDatasets"]) == 2 and len(details["outputDatasets"]) == 1, details


@promise
def a_job_outlives_its_token():
    renewing.wait_for_completion()
    assert "a new token: True" in log(renewing), log(renewing)
    assert renewing.get_metrics() == {"before": 1, "after": 2}, renewing.get_metrics()


@promise
def a_widget_shows_the_run():
    try:
        from azureml.widgets import RunDetails
    except ImportError as e:
        raise data.Absent(f"azureml-widgets does not import here: {e}") from e
    shown = RunDetails(training.run).get_widget_data()
    assert shown["status"] == "Completed" and shown["run_id"] == training.run.id, sorted(shown)


@promise
def a_run_is_submitted_below_another():
    child = many.submit_child(config("wait.py", 0, env=plain()))
    child.wait_for_completion()
    assert child.get_status() == "Completed" and child.parent.id == many.id, (child.get_status(), child.parent)
    assert [r.id for r in many.get_children()] == [child.id], list(many.get_children())


@promise
def a_job_that_submits_is_told_what_to_do_instead():
    submitting.wait_for_completion()
    said = log(submitting)
    assert "a job cannot submit further runs" in said and "child_run()" in said and "was submitted" not in said, said
    child, = submitting.get_children()
    assert child.name.endswith("in its place"), child.name
