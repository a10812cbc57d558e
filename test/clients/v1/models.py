"""Models: a file, a folder, and one that goes up in blocks."""

import hashlib
import os
import pathlib

from azureml.core import Model

from kit import promise, refused
from machine import ws


def sum_of(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@promise
def a_model_of_one_file_is_registered_and_downloaded():
    pathlib.Path("model 1.pkl").write_text("weights")
    m = Model.register(ws(), model_path="model 1.pkl", model_name="file", tags={"a": "b"}, properties={"p": "q"}, description="one file",
                       model_framework=Model.Framework.SCIKITLEARN, model_framework_version="1.0")
    assert (m.name, m.version, m.id) == ("file", 1, "file:1"), m
    got = Model(ws(), "file")
    assert got.tags == {"a": "b"} and got.properties.get("p") == "q" and got.description == "one file", got.serialize()
    assert got.model_framework == "ScikitLearn" and got.model_framework_version == "1.0", got.serialize()
    path = got.download(target_dir="back", exist_ok=True)
    assert pathlib.Path(path).read_text() == "weights", path


@promise
def a_model_has_versions_tags_and_a_newest_one():
    second = Model.register(ws(), model_path="model 1.pkl", model_name="file", tags={"stage": "new"})
    assert second.version == 2, second.version
    assert Model(ws(), "file").version == 2 and Model(ws(), "file", version=1).tags == {"a": "b"}
    assert Model(ws(), id="file:1").version == 1
    second.add_tags({"more": "1"})
    second.remove_tags("stage")
    second.update(description="changed")
    got = Model(ws(), "file", version=2)
    assert got.tags == {"more": "1"} and got.description == "changed", got.serialize()
    assert [m.version for m in Model.list(ws(), name="file")] == [2, 1]
    assert [m.version for m in Model.list(ws(), name="file", latest=True)] == [2]
    assert [m.name for m in Model.list(ws(), tags=[["more", "1"]])] == ["file"]
    assert ws().models["file"].version == 2


@promise
def a_model_of_a_folder_is_registered_and_downloaded():
    for name, text in (("folder/one.txt", "1"), ("folder/deep/größe 2.txt", "2"), ("folder/empty", "")):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(name).write_text(text)
    m = Model.register(ws(), model_path="folder", model_name="folder")
    where = pathlib.Path(m.download(target_dir="back-folder", exist_ok=True))
    got = {str(p.relative_to(where)): p.read_text() for p in where.rglob("*") if p.is_file()}
    assert got == {"one.txt": "1", "deep/größe 2.txt": "2", "empty": ""}, got


@promise
def a_model_of_70_mb_goes_up_in_blocks():
    block = os.urandom(1 << 20)
    with open("big.bin", "wb") as f:
        for i in range(70):
            f.write(bytes([i]) + block[1:])
    m = Model.register(ws(), model_path="big.bin", model_name="big")
    path = m.download(target_dir="back-big", exist_ok=True)
    assert os.path.getsize(path) == 70 << 20 and sum_of(path) == sum_of("big.bin")
    os.remove(path)
    os.remove("big.bin")


@promise
def a_model_is_deleted():
    Model(ws(), "file", version=1).delete()
    assert [m.version for m in Model.list(ws(), name="file")] == [2]
    refused(lambda: Model(ws(), "file", version=1), "ModelNotFound")
    refused(lambda: Model(ws(), "nothing"), "ModelNotFound")
