"""`concord verify` with recalls and a copy of the log: what it was shown decides, and it says how far it has looked."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from federation.audit.checkpoint import log_key
from federation.audit.entry import entry_of
from federation.errors import NotFound, VerificationFailed
from federation.identity.keys import SigningKey
from federation.releases.recall import encode_recall
from tests.unit.audit.logs import NOW, MadeLog, some_entries
from tests.unit.client.typed import concord, done, refused, told_of
from tests.unit.releases.released import LOG_KEY, trained, whole


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


def log_of(*recalled: bytes, revoked: str = "") -> MadeLog:
    """What the release's own log has become since, with recalls, and a consent that was taken back."""
    world = trained()
    with TemporaryDirectory() as folder:
        before = world.entries(world.inputs(Path(folder)))
    said = [entry_of("recall", f"job={'ab' * 32} release={each.hex()}", b"\1" * 32, NOW) for each in recalled]
    said += [entry_of("revocation", f"{world.job.digest.hex()} {revoked} node", b"\2" * 32, NOW)] if revoked else []
    entries = [*before, *(entry.encode() for entry in said), *some_entries(2)]
    return MadeLog(entries, federation="health", signing=LOG_KEY)


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
    assert "is known as of the head of 22 entries of concord/health" in said
    assert "The copy of the log that was read has the same history at 19 entries." in said


def test_a_consent_that_was_taken_back_after_the_release_is_told(release: Path, tmp_path: Path) -> None:
    said = done(concord("verify", release, "--log", copied(log_of(revoked="m2"), tmp_path / "log"))).out
    assert "Since then, by the log that was read: taken back by m2 (2027-01-15 08:00 UTC)." in said


def test_proofs_of_a_fork_of_the_log_fail_against_the_readers_copy(release: Path, tmp_path: Path) -> None:
    """Signed with the same key, and cosigned: the copy of a reader who was shown the other history tells them apart."""
    other = log_of()
    forked = MadeLog([*other.entries[:7], *some_entries(20)], federation="health", signing=LOG_KEY)
    answer = told_of(concord("verify", release, "--log", copied(forked, tmp_path / "log")), VerificationFailed, "log")
    assert "The proofs are of a fork: the copy of the log that was read has another history at 19 entries" in answer.out
    shorter = MadeLog(other.entries[:3], federation="health", signing=LOG_KEY)
    said = done(concord("verify", release, "--log", copied(shorter, tmp_path / "early"))).out
    assert "ends at 3 entries, before the job" in said


def test_proofs_of_another_log_fail_against_the_readers_key(release: Path, tmp_path: Path) -> None:
    keys = {"own": LOG_KEY, "other": SigningKey.generate()}
    for name, key in keys.items():
        (tmp_path / name).write_text(f"{log_key('health', key.public)}\n")
    assert "is the one that was given" in done(concord("verify", release, "--log-key", tmp_path / "own")).out
    answer = told_of(concord("verify", release, "--log-key", tmp_path / "other"), VerificationFailed, "log")
    assert "The proofs are of another log" in answer.out


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
