"""Votes on a release, and recalls: what members decided, whatever the coordinator says. Attacks by name."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from federation.errors import FederationError, InvalidIdentity, PolicyDenied
from federation.governance.charter import Charter
from federation.identity.envelope import canonical
from federation.releases.approval import check_approval
from federation.releases.listing import APPROVAL, CONFIG
from federation.releases.recall import encode_recall, read_recall
from federation.releases.verify import Known, verify
from tests.unit.releases.released import JOB, VOTED, Files, Training, founded, relisted, trained, whole

ALL = JOB.replace("  coordinatorView: sum", "  coordinatorView: sum\n  release: {approval: members}")
NOBODY = ALL.replace("approval: members", "approval: none")


def voting(text: str = JOB) -> Training:
    return trained(text=text, charter=VOTED)


@cache
def _approved(*yes: str) -> Files:
    with TemporaryDirectory() as folder:
        world = voting()
        return whole(world.release(Path(folder), decision=world.decided(*yes)))


def approved(*yes: str) -> Files:
    return dict(_approved(*(yes or ("m1", "m3"))))


def words(files: Files, check: str, **more: Any) -> str:
    """What a failed check says."""
    (found,) = [each for each in verify(files, **more).checks if each.name == check]
    assert not found.ok
    return found.detail


# ------------------------------------------------------------------------------------------------------------ approval


def test_two_of_three_approve_a_release_and_the_third_is_not_needed() -> None:
    files = approved()
    report = verify(files, voting().parties.roll.envelope)
    assert report.ok, report
    (found,) = [check for check in report.checks if check.name == "approval"]
    assert f"The release {voting().subject.hex()} was approved by m1, m3: 2 of 3 by weight said yes" in found.detail
    assert json.loads(files[CONFIG])["release"]["approvedBy"] == ["m1", "m3"]
    assert b"approved by m1, m3 (2 of 3 by weight)" in files["README.md"]


def test_without_the_quorum_no_release_is_made(tmp_path: Path) -> None:
    world = voting()
    for decision in (None, world.decided("m1")):
        with pytest.raises(InvalidIdentity, match=r"is missing|lacks its quorum"):
            world.release(tmp_path, decision=decision)


def test_a_release_without_its_vote_a_coordinator_leaves_it_out() -> None:
    files = approved()
    del files[APPROVAL]
    assert "vote on this release is missing" in words(relisted(files), "approval")


def test_votes_about_another_release_about_a_recall_and_by_another_roll() -> None:
    world, files = voting(), approved()
    for decision, said in (
        (world.decided("m1", "m2", subject=bytes(32)), "another subject"),
        (trained(nonce=1, charter=VOTED).decided("m1", "m2"), "another subject"),
        (world.decided("m1", "m2", action="recall"), "takes one about a release"),
        (world.decided("m1", "m2", by=founded()), "under another roll"),
        (world.decided("m1"), "lacks its quorum"),
    ):
        assert said in words(relisted(files | {APPROVAL: decision}), "approval")


def test_a_forged_vote_on_a_release() -> None:
    """The coordinator signs for m2 with a key of its own."""
    world, files = voting(), approved()
    stranger = founded("other")
    document = json.loads(world.decided("m1"))
    forged = json.loads(world.decided("m1", "m2", by=stranger))
    document["votes"] = sorted([*document["votes"], *forged["votes"]], key=canonical)
    assert "lacks its quorum" in words(relisted(files | {APPROVAL: canonical(document)}), "approval")


def test_each_byte_of_an_approval_counts() -> None:
    world, files = voting(), approved()
    data, roll = files[APPROVAL], world.parties.roll
    check_approval(world.job, roll, ("m1",), world.subject, data)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(FederationError):
            check_approval(world.job, roll, ("m1",), world.subject, bytes(altered))


def test_a_job_may_ask_for_each_of_its_members(tmp_path: Path) -> None:
    world = trained(text=ALL)
    with pytest.raises(InvalidIdentity, match="no yes of m2"):
        world.release(tmp_path, decision=world.decided("m1", "m3"))
    with pytest.raises(InvalidIdentity, match="is missing"):
        world.release(tmp_path)
    assert verify(world.release(tmp_path, decision=world.decided("m1", "m2", "m3"))).ok


def test_a_job_cannot_ask_for_less_than_the_charter(tmp_path: Path) -> None:
    with pytest.raises(PolicyDenied, match="needs no vote"):
        voting(NOBODY).release(tmp_path, decision=voting(NOBODY).decided("m1", "m2", "m3"))
    assert verify(trained(text=NOBODY).release(tmp_path)).ok


def test_a_vote_does_not_pass_a_failed_gate(tmp_path: Path) -> None:
    gated = JOB.replace(
        "  coordinatorView: sum", "  coordinatorView: sum\n  gates: {quality: [{figure: accuracy, atLeast: 9}]}"
    )
    world = voting(gated)
    with pytest.raises(FederationError, match="gates did not pass"):
        world.release(tmp_path, decision=world.decided("m1", "m2", "m3"))


# -------------------------------------------------------------------------------------------------------------- recall


def recall(world: Training, *yes: str, **more: Any) -> bytes:
    return encode_recall(world.decided(*(yes or ("m2",)), action="recall", **more), world.parties.roll)


@pytest.mark.parametrize("charter", [None, VOTED])
def test_a_recalled_release_presented_as_valid(tmp_path: Path, charter: Charter | None) -> None:
    """A third of the members is enough to recall. Everything in the folder still checks."""
    world = trained(charter=charter)
    decision = world.decided("m1", "m2") if charter else None
    files = whole(world.release(tmp_path, decision=decision))
    said = words(files, "recall", known=Known(recalls=(recall(world),)))
    assert "was recalled on 2026-01-31 12:00 UTC by m2, under version 1" in said
    assert "“recall of digits”" in said
    assert [check.name for check in verify(files, known=Known(recalls=(recall(world),))).checks if not check.ok] == [
        "recall"
    ]


def test_a_recall_in_the_log_is_enough() -> None:
    files, subject = approved(), voting().subject
    said = words(files, "recall", known=Known(in_log=((subject, "2026-02-01 10:00 UTC"),), read_up_to="as of entry 9"))
    assert "The public log holds a recall of this release, of 2026-02-01 10:00 UTC" in said
    report = verify(files, known=Known(in_log=((bytes(32), "then"),), read_up_to="as of the log's head of 12 entries"))
    assert report.ok
    assert "is known as of the log's head of 12 entries" in report.checks[-1].detail


def test_without_a_head_of_the_log_the_report_says_what_it_cannot_know() -> None:
    report = verify(approved())
    assert report.ok
    assert "a recall may exist that this machine has not seen" in report.checks[-1].detail


def test_a_recall_of_another_release_is_no_reason_to_refuse_this_one() -> None:
    report = verify(approved(), known=Known(recalls=(recall(voting(), subject=bytes(range(32))),)))
    assert report.ok
    assert "None of 1 recalls that were shown is of this release" in report.checks[-1].detail


def test_a_recall_that_does_not_check_is_no_silence() -> None:
    """Whoever shows one that cannot be checked gets no "ok": the reader must find out."""
    good = recall(voting())
    stranger = recall(trained("other"))
    for bad in (b"", b"{}", b"[" * 100_000, good[:-1], stranger, good.replace(b'"votes":[', b'"votes":[ ')):
        assert words(approved(), "recall", known=Known(recalls=(bad,)))


def test_each_byte_of_a_recall_counts() -> None:
    data, roll = recall(voting()), voting().parties.roll
    read_recall(data, roll)
    for place in range(0, len(data), 3):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(FederationError):
            read_recall(bytes(altered), roll)


def test_nobody_recalls_without_the_quorum() -> None:
    five = trained(members=5)
    with pytest.raises(InvalidIdentity, match="lacks its quorum for recall"):
        recall(five, "m1")
    assert read_recall(recall(five, "m1", "m2"), five.parties.roll).members == ("m1", "m2")
