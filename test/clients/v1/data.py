"""Datastores, and datasets of files, from where the person sits. What jobs get of them is in runs.py."""

import os
import pathlib

from azureml.core import Dataset, Datastore
from azureml.exceptions import UserErrorException

from kit import Absent, printed, promise, refused
from machine import ws

FILES = {"a.csv": "x,y\n1,2\n", "größe 1.txt": "blank", "deep/b.csv": "x\n3\n"}


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in pathlib.Path(folder).rglob("*") if p.is_file()}


def runtime():
    """The native part that datasets need."""
    try:
        import azureml.dataprep.rslex  # noqa: F401
    except ImportError as e:
        raise Absent(f"azureml-dataset-runtime does not import here: {e}") from e


@promise
def files_go_to_the_default_datastore_and_come_back():
    ds = ws().get_default_datastore()
    assert ds.name == "workspaceblobstore" and ds.datastore_type == "AzureBlob" and ds.container_name and ds.account_name, ds
    for name, text in FILES.items():
        path = pathlib.Path("up", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ds.upload("up", target_path="tab", overwrite=True, show_progress=True)
    assert ds.download("down", prefix="tab", overwrite=True, show_progress=False) == len(FILES)
    assert tree("down/tab") == FILES, tree("down")


@promise
def a_file_that_is_there_is_skipped_unless_it_is_overwritten():
    ds = ws().get_default_datastore()
    pathlib.Path("up/a.csv").write_text("changed")
    output, _ = printed(lambda: ds.upload_files(["up/a.csv"], target_path="tab", overwrite=False, show_progress=True))
    assert "skip" in output.lower(), output
    ds.download("kept", prefix="tab/a.csv", overwrite=True, show_progress=False)
    assert tree("kept")["tab/a.csv"] == FILES["a.csv"], tree("kept")
    ds.upload_files(["up/a.csv"], relative_root="up", target_path="other", overwrite=True, show_progress=False)
    ds.upload_files(["up/a.csv"], relative_root="up", target_path="other", overwrite=True, show_progress=False)
    ds.download("other", prefix="other", overwrite=True, show_progress=False)
    assert tree("other") == {"other/a.csv": "changed"}, tree("other")


@promise
def datastores_are_listed_registered_made_default_and_forgotten():
    first = ws().get_default_datastore()
    assert first.name in ws().datastores
    made = Datastore.register_azure_blob_container(ws(), "mine", first.container_name, first.account_name, account_key="a2V5a2V5", overwrite=True)
    assert made.name == "mine" and made.container_name == first.container_name, made
    again = Datastore.register_azure_blob_container(ws(), "mine", first.container_name, first.account_name, sas_token="sv=1&sig=z", overwrite=True)
    assert again.name == "mine"
    made.set_as_default()
    assert ws().get_default_datastore().name == "mine"
    first.set_as_default()
    assert ws().get_default_datastore().name == first.name
    made.unregister()
    assert "mine" not in ws().datastores
    refused(lambda: Datastore.get(ws(), "mine"), "mine")


@promise
def a_file_dataset_lists_and_downloads_its_files():
    runtime()
    ds = ws().get_default_datastore()
    files = Dataset.File.from_files([(ds, "tab/")])
    assert sorted(p.lstrip("/") for p in files.to_path()) == sorted(FILES), files.to_path()
    files.download("dataset", overwrite=True)
    assert tree("dataset") == FILES, tree("dataset")
    only = Dataset.File.from_files((ds, "tab/*.csv"))
    assert [os.path.basename(p) for p in only.to_path()] == ["a.csv"], only.to_path()


@promise
def a_dataset_is_registered_has_versions_and_is_found_again():
    runtime()
    ds = ws().get_default_datastore()
    first = Dataset.File.from_files([(ds, "tab/")]).register(ws(), "files", description="the files", tags={"a": "b"})
    assert first.version == 1, first.version
    refused(lambda: Dataset.File.from_files([(ds, "other/")]).register(ws(), "files"), "already", kind=Exception)
    second = Dataset.File.from_files([(ds, "other/")]).register(ws(), "files", create_new_version=True)
    assert second.version == 2, second.version
    got = Dataset.get_by_name(ws(), "files", version=1)
    assert got.description == "the files" and got.tags == {"a": "b"} and len(got.to_path()) == len(FILES), got
    assert Dataset.get_by_name(ws(), "files").version == 2
    assert Dataset.get_by_id(ws(), first.id).name == "files"
    assert "files" in [n for n in ws().datasets]
    refused(lambda: Dataset.get_by_name(ws(), "nothing"), "nothing", kind=(UserErrorException, Exception))


@promise
def a_folder_is_uploaded_as_a_dataset():
    runtime()
    ds = ws().get_default_datastore()
    made = Dataset.File.upload_directory("up/deep", (ds, "updir"), overwrite=True, show_progress=False)
    assert [os.path.basename(p) for p in made.to_path()] == ["b.csv"], made.to_path()
