"""A data set that shares files with a node's home or a coordinator's is refused: when it is added, and when the node starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from federation.errors import InvalidUsage
from node_agent.catalogue import places
from node_agent.catalogue.places import check_place, check_places
from node_agent.settings import DataSet

ROOT = Path(__file__).resolve().parents[3]


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
    names = {"scans": "data/scans", "later": "data/later"}
    check_places({name: DataSet(path=str(home.parent / place), examples=4) for name, place in names.items()}, home)


def test_a_path_that_depends_on_the_folder_of_the_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.parent)
    with pytest.raises(InvalidUsage, match="depends on where the node is started"):
        check_places({"scans": DataSet(path="data/scans", examples=4)}, home)


def test_a_bind_mount_of_a_coordinators_volume(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux lists it when `mount --bind volume/coordinator/blobs "/mnt/my data"` was run."""
    root = home.parent
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "29 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
        f"31 29 254:1 {root}/volume/coordinator/blobs {root}/data/my\\040scans rw - ext4 /dev/vda1 rw\n"
        f"32 29 254:9 /volume/coordinator {root}/data/scans rw - ext4 /dev/vdb rw\n"
    )
    monkeypatch.setattr(places, "MOUNTS", mounts)
    (root / "data" / "my scans").mkdir()
    with pytest.raises(InvalidUsage, match="a coordinator's home") as caught:
        check_place("scans", root / "data" / "my scans", home)
    assert str(root / "volume" / "coordinator") in caught.value.message
    check_place("scans", root / "data" / "scans", home)


def test_real_bind_mounts_are_seen(home: Path) -> None:
    """In a mount namespace of its own: the coordinator's keys, and this node's, under another name."""
    root, python = home.parent, sys.executable
    (root / "data" / "mounted").mkdir()
    code = (
        "import sys; from pathlib import Path; from node_agent.catalogue.places import check_place\n"
        "from federation.errors import InvalidUsage\n"
        "try: check_place('scans', Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except InvalidUsage as error: print(error)"
    )
    for what, words in (
        ("volume/coordinator/blobs", "a coordinator's home"),
        ("node/keys", "own home"),
        ("data/scans", ""),
    ):
        ended = subprocess.run(
            [
                *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
                'mount --bind "$1" "$2" && exec "$3" -c "$4" "$2" "$5"',
                *("sh", str(root / what), str(root / "data" / "mounted"), python, code, str(home)),
            ],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert words in ended.stdout
        assert bool(ended.stdout) == bool(words), ended.stdout
