"""Tests of the sandbox never pass by its absence: where it cannot run they fail.

CONCORD_TEST_NO_SANDBOX=1 leaves out what asks for the fixture ``sandboxed``, and the end of the run says so.

Tests run in several processes (``make test``), which must agree on their names.
"""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from examples.local_federation import forget_settings
from node_agent.runner.sandbox import detect_sandbox
from tests.postgresql import PostgresServer

WITHOUT = os.environ.get("CONCORD_TEST_NO_SANDBOX") == "1"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")

forget_settings()
# A program's commands are made once for all tests, and not for each call, which takes longer than most commands do.
typer.main.get_command = functools.cache(typer.main.get_command)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if ADDRESS.search(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} is named after a place in memory: give that parameter an id.")
    if WITHOUT:
        left_out = [item for item in items if "sandboxed" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if WITHOUT:
        terminalreporter.write_line("CONCORD_TEST_NO_SANDBOX=1: the sandbox was NOT tested.", yellow=True)


@pytest.fixture
def sandboxed() -> None:
    report = detect_sandbox()
    assert report.kind == "bubblewrap", f"{report.reason} {report.hint} (CONCORD_TEST_NO_SANDBOX=1 goes without.)"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of our own, started by the first test that asks for it; fails where PostgreSQL is not installed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A coordinator's empty database, of either engine: for ``tests.postgresql.opened``."""
    if request.param == "sqlite":
        return str(tmp_path / "coordinator.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.migrated()
