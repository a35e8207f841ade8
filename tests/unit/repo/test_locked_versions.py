"""Ranges stay in pyproject.toml, versions in constraints.txt, and nothing is imported that neither declares."""

import ast
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"federation", "coordinator", "node_agent", "models", "examples", "benchmarks", "tests"}


def locked() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, version in pairs}


def declared(extra: str | None = None) -> list[Requirement]:
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_range_has_a_locked_version_inside_it(extra: str | None) -> None:
    versions = locked()
    for requirement in declared(extra):
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(versions[str(canonicalize_name(requirement.name))]), str(requirement)


def test_the_lock_is_plain_versions() -> None:
    """No local builds, no paths, no hashes: it must hold on any machine."""
    assert locked()["torch"] == "2.13.0"
    assert [name for name, version in locked().items() if set(version) & set("+/@ ")] == []
    assert str(canonicalize_name(PROJECT["name"])) not in locked()


def test_flowers_own_dependencies_are_left_to_flower() -> None:
    """Naming starlette or uvicorn beside flwr makes pip fall back to a Flower of years ago."""
    named = {canonicalize_name(requirement.name) for requirement in declared()}
    assert named & {"starlette", "uvicorn", "fastapi", "sqlalchemy", "alembic", "typer", "rich", "httpx"} == set()


@cache
def closure(name: str) -> frozenset[str]:
    """A distribution and what it needs without extras, as installed here."""
    found = {str(canonicalize_name(name))}
    pending = list(found)
    while pending:
        try:
            lines = requires(pending.pop()) or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            needed = str(canonicalize_name(requirement.name))
            if needed not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(needed)
                pending.append(needed)
    return frozenset(found)


def imported(folder: str) -> set[str]:
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - OURS - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("federation", ()),
        ("coordinator", ("pictures", "mlflow")),
        ("node_agent", ("node",)),
        ("models", ("node", "demo")),
    ],
)
def test_what_a_room_imports_is_installed_with_it(folder: str, extras: tuple[str, ...]) -> None:
    """Declared by name, or part of what flwr and pydantic-settings bring."""
    named = {requirement.name for extra in (None, *extras) for requirement in declared(extra)}
    allowed = {str(canonicalize_name(name)) for name in named} | closure("flwr") | closure("pydantic-settings")
    providers = packages_distributions()
    local = {path.name for path in (ROOT / folder).rglob("*") if path.is_dir()} | {
        path.stem for path in (ROOT / folder).rglob("*.py")
    }
    missing = {
        name
        for name in imported(folder) - local
        if not {str(canonicalize_name(item)) for item in providers.get(name, [])} & allowed
    }
    assert missing == set()
