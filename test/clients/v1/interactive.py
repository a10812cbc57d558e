"""Runs without a job: what a notebook on somebody's laptop logs."""

import math
import pathlib

from azureml.core import Experiment, Run

from job.picture import png
from kit import CODE, printed, promise, refused, until
from machine import ws


def started(name="interactive"):
    return Experiment(ws(), name).start_logging(snapshot_directory=None)


@promise
def metrics_of_every_shape_are_read_as_they_were_logged():
    run = started()
    assert run.get_status() == "Running", run.get_status()
    run.log("one", 0.5)
    for value in (1.0, 2.0, 3.0):
        run.log("many", value)
    run.log("nan", math.nan)
    run.log("word", "text")
    run.log("yes", True)
    run.log_list("list", [1, 2, 3])
    run.log_row("row", a=1, b="x")
    run.log_table("table", {"x": [1, 2], "y": [3.5, 4.5]})
    run.complete()
    got = run.get_metrics()
    assert math.isnan(got.pop("nan")), got
    assert got == {"one": 0.5, "many": [1.0, 2.0, 3.0], "word": "text", "yes": True, "list": [1, 2, 3], "row": {"a": 1, "b": "x"},
                   "table": {"x": [1, 2], "y": [3.5, 4.5]}}, got
    assert run.get_metrics(name="many") == {"many": [1.0, 2.0, 3.0]}
    assert run.get_status() == "Completed"


@promise
def a_run_is_failed_and_canceled_by_its_client():
    run = started()
    run.fail(error_details="it did not converge", error_code="Diverged")
    assert run.get_status() == "Failed", run.get_status()
    assert "it did not converge" in str(run.get_details()["error"]), run.get_details()
    run = started()
    run.cancel()
    until("it is canceled", lambda: run.get_status() == "Canceled")
    try:
        with started() as broken:
            raise KeyError("nobody caught it")
    except KeyError:
        pass
    assert broken.get_status() == "Failed", broken.get_status()


@promise
def what_a_run_prints_is_kept():
    def work():
        with started() as run:
            print("printed within the run")
        return run

    _, run = printed(work)
    assert run.get_status() == "Completed"
    assert "logs/user_log.txt" in run.get_file_names(), run.get_file_names()
    run.download_file("logs/user_log.txt", "user_log.txt")
    assert "printed within the run" in pathlib.Path("user_log.txt").read_text()


@promise
def children_are_runs_of_their_own():
    run = started("family")
    child = run.child_run(name="named")
    child.log("score", 3)
    child.complete()
    more = run.create_children(count=3)
    for i, c in enumerate(more):
        c.log("score", i)
        c.complete()
    tagged = run.create_children(tag_key="lr", tag_values=[0.1, 0.2])
    for c in tagged:
        c.fail("one of them")
    run.complete()
    got = {c.id: c for c in run.get_children()}
    assert set(got) == {child.id, *(c.id for c in more), *(c.id for c in tagged)}, got
    named = got[child.id]
    assert named.name.endswith("named") and named.parent.id == run.id and named.get_metrics() == {"score": 3}, (named.name, named.parent, named.get_metrics())
    assert sorted(c.get_status() for c in got.values()) == ["Completed"] * 4 + ["Failed"] * 2
    assert sorted(c.get_tags()["lr"] for c in run.get_children(status="Failed")) == ["0.1", "0.2"]
    deep = run.get_metrics(recursive=True)
    assert sorted(v["score"] for v in [got[c.id].get_metrics() for c in more]) == [0, 1, 2], deep
    assert run.id in [r.id for r in Experiment(ws(), "family").get_runs()]
    assert child.id not in [r.id for r in Experiment(ws(), "family").get_runs()]
    assert child.id in [r.id for r in Experiment(ws(), "family").get_runs(include_children=True)]


@promise
def tags_properties_and_names_are_kept_and_found():
    run = started("marked")
    run.tag("quality", "fantastic run")
    run.tag("only a name")
    run.set_tags({"a": "1", "b": "2"})
    run.remove_tags(["b"])
    run.add_properties({"author": "x y"})
    run.display_name, run.description = "a nice name", "described"
    run.complete()
    got = Run.get(ws(), run.id)
    assert {k: v for k, v in got.get_tags().items() if k in ("quality", "a", "b")} == {"quality": "fantastic run", "a": "1"}, got.get_tags()
    assert "only a name" in got.get_tags() and got.get_properties()["author"] == "x y", (got.get_tags(), got.get_properties())
    assert got.display_name == "a nice name" and got.description == "described", (got.display_name, got.description)
    other = started("marked")
    other.complete()
    experiment = Experiment(ws(), "marked")
    for wanted in ({"tags": {"quality": "fantastic run"}}, {"tags": "only a name"}, {"properties": {"author": "x y"}},
                   {"tags": {"a": "1"}, "properties": {"author": "x y"}}):
        assert [r.id for r in experiment.get_runs(**wanted)] == [run.id], wanted
    assert [r.id for r in Run.list(experiment, status="Completed")] == [other.id, run.id], "not the newest first"
    assert not list(experiment.get_runs(tags={"quality": "poor"}))


@promise
def a_property_does_not_change():
    run = started()
    run.add_properties({"author": "first"})
    refused(lambda: run.add_properties({"author": "second"}), "author")
    assert run.get_properties()["author"] == "first"
    run.complete()


@promise
def files_of_a_run_are_listed_and_downloaded():
    run = started()
    pathlib.Path("one file.txt").write_text("one")
    run.upload_file("outputs/größe/one file.txt", "one file.txt")
    run.upload_folder("folder", CODE + "/lib")
    run.upload_files(["x/1", "x/2"], ["one file.txt", "one file.txt"])
    pathlib.Path("pixel.png").write_bytes(png())
    run.log_image("an image", path="pixel.png")
    run.complete()
    names = run.get_file_names()
    assert {"outputs/größe/one file.txt", "folder/1.txt", "x/1", "x/2"} <= set(names), names
    assert "pixel.png" in names and "pixel.png" in str(run.get_metrics()["an image"]), (names, run.get_metrics())
    run.download_file("outputs/größe/one file.txt", "got.txt")
    assert pathlib.Path("got.txt").read_text() == "one"
    run.download_files(prefix="x", output_directory="xs", append_prefix=True)
    assert sorted(str(p.relative_to("xs")) for p in pathlib.Path("xs").rglob("*") if p.is_file()) == ["x/1", "x/2"]
    refused(lambda: run.download_file("nothing", "nothing"), "nothing")


@promise
def experiments_are_listed():
    names = [e.name for e in Experiment.list(ws())]
    assert {"interactive", "family", "marked"} <= set(names), names
    assert Experiment(ws(), "family").id and "family" in ws().experiments
