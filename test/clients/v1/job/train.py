"""Trains a small model, and logs in every way that a run offers. It never flushes: nobody's script does."""

import argparse
import os
import pathlib
import sys

from azureml.core import Run
from sklearn.linear_model import Ridge

from picture import png

p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=0.1)
a = p.parse_args()
run = Run.get_context(allow_offline=False)
print("training run", run.id, "with", sys.version.split()[0], flush=True)
print("on standard error", file=sys.stderr)

model = Ridge(alpha=a.lr).fit([[0], [1], [2]], [0, 1, 2])
for epoch in range(3):
    run.log("loss", 1 / (epoch + 1))
run.log("accuracy", 0.5, description="described", step=7)
run.log("kind", "ridge")
run.log_list("list", [1, 2, 3])
run.log_row("row", x=1, y=2)
run.log_row("row", x=3, y=4)
run.log_table("table", {"x": [1, 2, 3], "y": [0.1, 0.2, 0.3]})
run.log_confusion_matrix("matrix", {
    "schema_type": "confusion_matrix", "schema_version": "1.0.0", "data": {"class_labels": ["a", "b"], "matrix": [[3, 1], [0, 2]]}})
run.log_accuracy_table("table of accuracy", {
    "schema_type": "accuracy_table", "schema_version": "1.0.1", "data": {
        "probability_tables": [[[1, 0, 0, 1], [1, 0, 0, 1]]], "percentile_tables": [[[1, 0, 0, 1], [1, 0, 0, 1]]],
        "probability_thresholds": [0.0, 1.0], "percentile_thresholds": [0.0, 1.0], "class_labels": ["a"]}})
pathlib.Path("pixel.png").write_bytes(png())
run.log_image("a picture", path="pixel.png")

os.makedirs("outputs/größe", exist_ok=True)
pathlib.Path("outputs/model.txt").write_text(f"coefficient {model.coef_[0]:.3f}")
pathlib.Path("outputs/größe/x y.txt").write_text("blank")
os.makedirs("logs", exist_ok=True)
pathlib.Path("logs/own.txt").write_text("a log of its own")
pathlib.Path("notes.txt").write_text("notes")
run.upload_file("uploaded/notes 1.txt", "notes.txt")
run.upload_folder("folder", "lib")
run.tag("stage", "trained")
run.set_tags({"a": "1", "b": "2"})
run.add_properties({"author": "the test"})
with run.child_run(name="child") as child:
    child.log("score", 3)
print("from the run:", run.get_tags().get("stage"), run.experiment.name, flush=True)
run.log("last", 1)
