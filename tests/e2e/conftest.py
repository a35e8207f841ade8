"""Federations that the end-to-end tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.local_federation import LocalFederation
from tests.e2e.runs import Runs, members_of

PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"))
FOURTH = ("de", "DE")
HEADS = {"CONCORD_COORDINATOR_LOG_HEAD_SECONDS": "0.2"}
"""tests do not wait for the log's next head"""


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Three members. Tests leave every service running, and start again what they ended."""
    folder: Path = tmp_path_factory.mktemp("three")
    members = members_of(folder / "data", *PLACES)
    with LocalFederation(folder / "federation", "three", members, environment=HEADS) as local:
        yield Runs(local, folder)


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Four members: the fewest of which one may be missing. Tests leave services and policies as they found them."""
    folder: Path = tmp_path_factory.mktemp("four")
    members = members_of(folder / "data", *PLACES, FOURTH)
    with LocalFederation(folder / "federation", "four", members) as local:
        yield Runs(local, folder)
