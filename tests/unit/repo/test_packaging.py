"""`pip install .` brings what the services need besides Python files."""

import fnmatch
import importlib
import tomllib
from pathlib import Path

import pytest
from setuptools import find_namespace_packages

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUP = DOCUMENT["tool"]["setuptools"]


ROOMS = ("federation", "coordinator", "node_agent", "models")


def files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return [path.relative_to(ROOT) for path in found if path.is_file() and "__pycache__" not in path.parts]


def test_every_file_of_the_rooms_is_packaged() -> None:
    packages = set(find_namespace_packages(str(ROOT), include=SETUP["packages"]["find"]["include"]))
    patterns = SETUP["package-data"]["*"]
    left_out = [
        str(path)
        for path in files(*ROOMS)
        if not (
            ".".join(path.parent.parts) in packages
            and (path.suffix == ".py" or any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns))
        )
    ]
    assert left_out == []


@pytest.mark.parametrize("command", sorted(DOCUMENT["project"]["scripts"]))
def test_each_command_leads_to_a_function(command: str) -> None:
    module, function = DOCUMENT["project"]["scripts"][command].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_no_file_names_a_machine() -> None:
    """Paths and package hosts of somebody's machine do not belong in the project."""
    marks = [b"/" + folder for folder in (b"work/", b"opt/pypi", b"opt/wheels", b"root/.")]
    top = [path.relative_to(ROOT) for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    rest = files(*ROOMS, "benchmarks", "docs", "examples", "helm", "images", "protos", "tests", ".ci")
    named = [str(path) for path in [*top, *rest] if any(mark in (ROOT / path).read_bytes() for mark in marks)]
    assert named == []
