"""What the node's doctor says of GPUs: that they are there is not enough for a job."""

from pathlib import Path

import pytest

from federation.findings import found
from node_agent import doctor
from node_agent.runner.devices import Gpu, shut


def card(folder: Path, *names: str, is_slice: bool = False) -> Gpu:
    return Gpu(0, "H200", 141 << 30, "cuda", "GPU-a", tuple(str(folder / name) for name in names), is_slice)


def test_files_that_a_job_needs_are_missed_and_others_are_not(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "renderD128"):
        (tmp_path / name).touch()
    assert shut([card(tmp_path, "nvidia0", "nvidiactl", "nvidia-uvm-tools", "nvidia-caps")]) == ()
    assert shut([card(tmp_path, "nvidia0", "nvidia-uvm")] * 2) == (str(tmp_path / "nvidia-uvm"),)
    assert shut([card(tmp_path, "nvidia0", "nvidia-caps", is_slice=True)]) == (str(tmp_path / "nvidia-caps"),)
    (tmp_path / "nvidia-caps").mkdir()
    assert shut([card(tmp_path, "nvidia0", "nvidia-caps", is_slice=True)]) == ()
    assert shut([card(tmp_path, "renderD128", "card0", "kfd")]) == (str(tmp_path / "kfd"),)


@pytest.mark.parametrize(
    ("names", "driver", "state", "says", "todo"),
    [
        (("nvidia0",), True, "ok", "H200, 141 GiB (cuda).", ""),
        (("nvidia0", "nvidia-uvm"), True, "wrong", "nvidia-uvm cannot be opened, or is missing", "nvidia-modprobe"),
        (None, True, "note", "no card can be lent", "nvidia-smi"),
        (None, False, "note", "None is seen", ""),
    ],
    ids=["well", "a file is missing", "a driver without cards", "none"],
)
def test_each_state_says_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...] | None,
    driver: bool,
    state: str,
    says: str,
    todo: str,
) -> None:
    (tmp_path / "nvidia0").touch()
    cards = () if names is None else (card(tmp_path, *names),)
    monkeypatch.setattr(doctor, "detect_gpus", lambda: cards)
    monkeypatch.setattr(doctor, "DRIVER", tmp_path if driver else tmp_path / "none")
    said = found("gpu", doctor.gpus_here)
    assert (said.state, says in said.says, todo in said.todo, bool(said.todo)) == (state, True, True, bool(todo)), said
