"""Who may import whom: the contracts of .importlinter, and what a service's process really loads."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
IN_THE_WORKER = {"node_agent.runner.flower_app", "node_agent.runner.worker_process"}
"""These run in the sandbox, in a process of their own, and nowhere else."""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def modules_of(room: str) -> list[str]:
    """Migrations are scripts that alembic runs, and no modules."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / room).rglob("*.py"))]
    return [".".join(path.parts) for path in paths if path.name != "__init__" and "migrations" not in path.parts]


def test_every_contract_is_kept() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = run(linter, "--no-cache", "--no-logo", "--config", ROOT / ".importlinter")
    assert result.returncode == 0, result.stdout + result.stderr


LOADED = """
import importlib, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
print(*sorted(set(sys.argv[2].split()) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("coordinator", "torch flwr models node_agent"),
        ("coordinator/client", "torch flwr models node_agent sqlalchemy"),
        ("node_agent", "torch flwr models coordinator sqlalchemy"),
        ("federation", "torch flwr grpc sqlalchemy fastapi asyncio"),
    ],
)
def test_the_modules_of_a_room_load_no_more_than_they_may(room: str, never: str) -> None:
    modules = [name for name in modules_of(room) if not name.endswith("_pb2_grpc") and name not in IN_THE_WORKER]
    result = run(sys.executable, "-c", LOADED, " ".join(modules), never)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
