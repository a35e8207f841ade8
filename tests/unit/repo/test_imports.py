"""Who may import whom: the contracts of .importlinter, and what a service's process really loads."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_contract_is_kept() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = run(linter, "--no-cache", "--no-logo", "--config", ROOT / ".importlinter")
    assert result.returncode == 0, result.stdout + result.stderr


LOADED = """
import importlib, sys
for name in sys.argv[1].split(): importlib.import_module(name)
print(" ".join(sorted(set(sys.argv[2].split()) & set(sys.modules))))
"""


@pytest.mark.parametrize(
    ("start", "never"),
    [
        ("coordinator.main", "torch flwr models node_agent"),
        ("coordinator.client.main", "torch flwr models node_agent sqlalchemy"),
        ("node_agent.main", "torch flwr models coordinator sqlalchemy"),
    ],
)
def test_a_command_loads_no_more_than_its_rooms(start: str, never: str) -> None:
    result = run(sys.executable, "-c", LOADED, start, never)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_the_whole_shared_law_loads_without_network_database_or_torch() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "federation").rglob("*.py"))
        if not path.name.endswith("_pb2_grpc.py") and path.name != "__init__.py"
    ]
    result = run(sys.executable, "-c", LOADED, " ".join(modules), "torch flwr grpc sqlalchemy fastapi asyncio")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
