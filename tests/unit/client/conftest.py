"""A scripted coordinator that runs for one test, and the home of the lead who is logged in to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.client.home import Home
from tests.unit.client import scripted


@pytest.fixture
def server() -> Iterator[scripted.Coordinator]:
    made = scripted.coordinator()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def home(server: scripted.Coordinator, tmp_path: Path) -> Home:
    return scripted.logged_in(tmp_path / "home", server)
