"""`concord verify` with recalls and a copy of the log: what it was shown decides, and it says how far it has looked."""

from pathlib import Path

import pytest

from federation.audit.entry import entry_of
from federation.errors import NotFound, VerificationFailed
from federation.releases.recall import encode_recall
from tests.unit.audit.logs import NOW, MadeLog, some_entries
from tests.unit.client.typed import concord, done, refused, told_of
from tests.unit.releases.released import trained, whole


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for path, data in whole(trained().release(tmp_path)).items():
        target = tmp_path / "release" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return tmp_path / "release"


def copied(log: MadeLog, folder: Path) -> Path:
    for path, data in {**log.files(), "log.key": f"{log.key}\n".encode()}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def log_of(*recalled: bytes) -> MadeLog:
    said = [entry_of("recall", f"job={'ab' * 32} release={each.hex()}", b"\1" * 32, NOW) for each in recalled]
    return MadeLog([*some_entries(5), *(entry.encode() for entry in said), *some_entries(2)])


def test_a_recall_that_is_shown_fails_with_who_and_when(release: Path, tmp_path: Path) -> None:
    world = trained()
    file = tmp_path / "recalls" / "digits.json"
    file.parent.mkdir()
    file.write_bytes(encode_recall(world.decided("m2", action="recall"), world.parties.roll))
    for shown in (file, file.parent):
        answer = told_of(concord("verify", release, "--recalls", shown), VerificationFailed, "recall")
        assert "was recalled on 2026-01-31 12:00 UTC by m2" in answer.out
    other = file.parent / "other.json"
    other.write_bytes(b"{}")
    assert "This is not a recall" in told_of(concord("verify", release, "--recalls", other), VerificationFailed).out


def test_a_recall_in_the_log_fails_and_a_log_without_one_says_up_to_where(release: Path, tmp_path: Path) -> None:
    recalled = copied(log_of(bytes(32), trained().subject), tmp_path / "recalled")
    answer = told_of(concord("verify", release, "--log", recalled), VerificationFailed, "recall")
    assert "The public log holds a recall of this release, of 2027-01-15 08:00 UTC" in answer.out
    silent = copied(log_of(bytes(32)), tmp_path / "silent")
    said = done(concord("verify", release, "--log", silent)).out
    assert "is known as of the head of 8 entries of concord/atlas" in said


def test_a_log_whose_recall_was_taken_out_does_not_check(release: Path, tmp_path: Path) -> None:
    """The folder's head is the one that the log signed; the entry is gone from the file."""
    log = log_of(trained().subject)
    folder = copied(log, tmp_path / "log")
    fewer = MadeLog([each for each in log.entries if b'"recall"' not in each], signing=log.signing)
    for path, data in fewer.files().items():
        if path != "checkpoint":
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    assert concord("verify", release, "--log", folder).code in (3, 6)


def test_a_log_that_is_not_there_is_no_silence(release: Path, tmp_path: Path) -> None:
    refused(concord("verify", release, "--log", tmp_path / "nowhere"), NotFound, "key of the log")
