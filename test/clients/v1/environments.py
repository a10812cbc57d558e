"""Environments: registered, versioned, listed, built, curated."""

import pathlib

from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.environment import Environment

from kit import promise, refused, until
from machine import ws


def described():
    env = Environment("own-env")
    env.python.conda_dependencies = CondaDependencies.create(conda_packages=["numpy"], pip_packages=["six"])
    env.environment_variables = {"A": "b c"}
    return env


@promise
def an_environment_is_registered_and_comes_back_as_it_was():
    made = described().register(ws())
    assert made.version == "1", made.version
    got = Environment.get(ws(), "own-env")
    assert got.version == "1" and got.environment_variables == {"A": "b c"}, got
    wanted, conda = described().python.conda_dependencies, got.python.conda_dependencies
    assert (set(conda.conda_packages), set(conda.pip_packages), set(conda.conda_channels)) == (
        set(wanted.conda_packages), set(wanted.pip_packages), set(wanted.conda_channels)), conda.serialize_to_string()
    assert conda.get_python_version() == wanted.get_python_version(), conda.serialize_to_string()
    assert got.docker.base_image == described().docker.base_image, got.docker.base_image


@promise
def an_environment_has_versions():
    same = described().register(ws())
    changed = described()
    changed.environment_variables = {"A": "other"}
    second = changed.register(ws())
    assert int(second.version) > int(same.version), (same.version, second.version)
    assert Environment.get(ws(), "own-env").environment_variables == {"A": "other"}
    assert Environment.get(ws(), "own-env", version="1").environment_variables == {"A": "b c"}
    named = described()
    named.version = "named"
    assert named.register(ws()).version == "named"
    refused(lambda: Environment.get(ws(), "own-env", version="9"))
    refused(lambda: Environment.get(ws(), "nothing"))


@promise
def environments_are_listed_with_curated_ones():
    listed = Environment.list(ws())
    assert "own-env" in listed and listed["own-env"].environment_variables, sorted(listed)
    assert [n for n in listed if n.startswith("AzureML-")], sorted(listed)
    curated = Environment.get(ws(), "AzureML-Minimal")
    assert curated.python and curated.docker is not None and curated.name == "AzureML-Minimal", curated
    assert "own-env" in ws().environments


@promise
def an_environment_is_saved_to_a_folder_and_read_back():
    Environment.get(ws(), "own-env", version="1").save_to_directory("saved", overwrite=True)
    assert Environment.load_from_directory("saved").name == "own-env"
    pathlib.Path("conda.yml").write_text("name: x\nchannels: [conda-forge]\ndependencies:\n- python=3.11\n- pip:\n  - six\n")
    made = Environment.from_conda_specification("from-file", "conda.yml").register(ws())
    assert "six" in Environment.get(ws(), "from-file", made.version).python.conda_dependencies.serialize_to_string()


@promise
def a_registrys_password_is_kept_and_does_not_come_back():
    env = Environment("of-a-registry")
    env.python.user_managed_dependencies = True
    env.docker.base_image = "team/train:1"
    registry = env.docker.base_image_registry
    registry.address, registry.username, registry.password = "registry.example", "bob", "Pa55-of-the-registry"
    env.register(ws())
    got = Environment.get(ws(), "of-a-registry").docker.base_image_registry
    assert got.address == "registry.example" and got.username == "bob" and not got.password, got


@promise
def an_environment_is_built_or_it_is_said_what_stands_for_that():
    env = Environment("to-build")
    env.python.user_managed_dependencies = True
    build = env.build(ws())
    build.wait_for_completion(show_output=True)
    until("the build ends", lambda: build.status in ("Succeeded", "Failed"))
    assert build.status == "Succeeded", build.status
    details = Environment.get(ws(), "to-build").get_image_details(ws())
    assert details, details
