"""``scratch`` in node.yaml: where workers keep their files, and where they may not."""

from pathlib import Path

import pytest

from federation.errors import InvalidUsage
from node_agent.rounds.files import JobFiles
from node_agent.rounds.workshop import check_workshop, workshop_of
from node_agent.settings import NodeSettings
from tests.unit.agent.homes import JOB


def settings_of(scratch: Path | str | None, node: str = "fr-1", data: Path = Path("/srv/data")) -> NodeSettings:
    return NodeSettings.model_validate(
        {
            "federation": "health", "member": "fr", "node": node, "scratch": None if scratch is None else str(scratch),
            "dataSets": {"scans": {"path": str(data), "examples": 9}},
        }
    )  # fmt: skip


def test_the_files_of_workers_lie_there_and_all_others_in_the_home(tmp_path: Path) -> None:
    scratch = tmp_path / "volume"
    scratch.mkdir()
    settings = settings_of(scratch)
    check_workshop(settings, tmp_path / "home")
    files = JobFiles(tmp_path / "home" / "jobs" / JOB, workshop_of(settings))
    files.prepare()
    assert files.scratch.is_relative_to(scratch)
    assert files.model(3).is_relative_to(scratch)
    assert {path.stat().st_mode & 0o777 for path in (files.scratch, files.scratch.parent)} == {0o700}
    assert not any(path.is_relative_to(scratch) for path in (files.states, files.updates, files.bundle, files.task_log))
    (files.scratch / "model-1.safetensors").write_bytes(b"secret")
    files.erase_work()
    assert [path for path in scratch.rglob("*") if path.is_file() or path.name == JOB] == []


def test_two_nodes_on_one_machine_do_not_share_a_jobs_files(tmp_path: Path) -> None:
    one, other = (JobFiles(tmp_path / JOB, workshop_of(settings_of(tmp_path, node))) for node in ("fr-1", "fr-2"))
    assert one.scratch != other.scratch


def test_without_it_the_home_has_everything(tmp_path: Path) -> None:
    check_workshop(settings_of(None), tmp_path)
    assert workshop_of(settings_of(None)) is None
    assert JobFiles(tmp_path / "job").scratch == tmp_path / "job" / "scratch"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scratch", "says"),
    [
        ("volume", "depends on where the node is started"),
        ("{root}/nowhere", "is no folder that is there"),
        ("{root}/file", "is no folder that is there"),
        ("{root}/home", "shares files with this node's home"),
        ("{root}/home/jobs", "shares files with this node's home"),
        ("{root}", "shares files with"),
        ("{root}/data", "shares files with the data set scans"),
        ("{root}/link", "shares files with the data set scans"),
        ("{root}/data/deep", "shares files with the data set scans"),
        ("/proc", "cannot be written"),
        ("{root}/taken", "is not this user's folder"),
    ],
)
def test_a_place_where_they_may_not_lie_is_refused_at_the_start(tmp_path: Path, scratch: str, says: str) -> None:
    for folder in ("home/jobs", "data/deep", "taken"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "taken" / "health-fr-1").symlink_to(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidUsage, match=says) as said:
        check_workshop(settings_of(scratch.format(root=tmp_path), data=tmp_path / "data"), tmp_path / "home")
    assert said.value.hint
    assert sorted(tmp_path.rglob("*")) == before, "nothing is made in a place that is refused"
