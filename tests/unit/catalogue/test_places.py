"""A data set that shares files with a node's home or a coordinator's is refused: when it is added, and when the node starts."""

from pathlib import Path

import pytest

from federation.errors import InvalidUsage
from node_agent.catalogue.places import check_place, check_places
from node_agent.settings import DataSet


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "node" / "keys").mkdir(parents=True)
    hub = tmp_path / "volume" / "coordinator"
    (hub / "blobs").mkdir(parents=True)
    (hub / "coordinator.yaml").write_text("federation: atlas\n")
    (tmp_path / "data" / "scans").mkdir(parents=True)
    (tmp_path / "data" / "link").symlink_to(hub / "blobs")
    return tmp_path / "node"


@pytest.mark.parametrize("place", ["node", "node/keys", "."])
def test_the_nodes_own_home_is_no_data(home: Path, place: str) -> None:
    with pytest.raises(InvalidUsage, match="this node's own home") as caught:
        check_place("scans", home.parent / place, home)
    assert "folder of its own" in caught.value.hint


@pytest.mark.parametrize("place", ["volume", "volume/coordinator", "volume/coordinator/blobs", "data/link"])
def test_a_coordinators_volume_is_no_place_for_data(home: Path, place: str) -> None:
    held = {"scans": DataSet(path=str(home.parent / place), examples=4)}
    with pytest.raises(InvalidUsage, match="a coordinator's home") as caught:
        check_places(held, home)
    assert "folder of its own" in caught.value.hint


def test_a_folder_of_its_own_is_taken_and_one_that_is_not_there_yet(home: Path) -> None:
    places = {"scans": "data/scans", "later": "data/later"}
    check_places({name: DataSet(path=str(home.parent / place), examples=4) for name, place in places.items()}, home)
