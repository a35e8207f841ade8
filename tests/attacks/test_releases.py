"""Releases under attack: a consent left out, a recall kept silent, a vote that was never cast. The verifier has files alone."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from federation.errors import PolicyDenied
from federation.releases.listing import APPROVAL
from federation.releases.recall import encode_recall
from federation.releases.verify import Known, verify
from federation.secagg import wire
from federation.v1 import rounds_pb2
from node_agent.rounds.releasing import check_release
from tests.unit.releases.released import VOTED, Files, Training, founded, relisted, trained, whole


def voting() -> Training:
    return trained(charter=VOTED)


@cache
def _released() -> Files:
    with TemporaryDirectory() as folder:
        return whole(voting().release(Path(folder), decision=voting().decided("m1", "m2")))


def failed(files: Files, known: Known) -> set[str]:
    return {check.name for check in verify(files, known=known).checks if not check.ok}


@pytest.mark.parametrize("member", ["m1", "m2", "m3"])
def test_a_release_with_one_consent_missing(member: str) -> None:
    """List and statement are made anew by whoever took it out: what is missing shows by the roster that all members signed."""
    files = {path: data for path, data in _released().items() if path != f"consents/{member}.json"}
    assert "consents" in failed(relisted(files), Known())


def test_a_consent_that_stands_in_for_another() -> None:
    """The member consented to another job, or another member did to this one."""
    files = dict(_released())
    other = trained(nonce=1, charter=VOTED).consent("m2")
    for data in (files["consents/m1.json"], other):
        assert "consents" in failed(relisted(files | {"consents/m2.json": data}), Known())


def test_a_recalled_release_presented_as_valid() -> None:
    """The folder is untouched, and every other check passes. What a reader was shown, or reads in the log, decides."""
    files, world = dict(_released()), voting()
    recall = encode_recall(world.decided("m3", action="recall"), world.parties.roll)
    assert failed(files, Known(recalls=(recall,))) == {"recall"}
    assert failed(files, Known(in_log=((world.subject, "2026-02-01 10:00 UTC"),), read_up_to="now")) == {"recall"}
    silent = verify(files).checks[-1]
    assert silent.ok
    assert "a recall may exist that this machine has not seen" in silent.detail, "it does not pretend to know"


# ----------------------------------------------------------------------- a coordinator that wants the model before the vote


def asked(world: Training, decision: bytes) -> None:
    receipts = world.certified[world.terms.last_round].receipts
    proto = rounds_pb2.ProvideRelease(
        state_digest=world.final.digest(), receipts=[wire.to_proto(each) for each in receipts], decision=decision
    )
    for name in world.names:
        check_release(world.job, world.labs[name].machine, proto, world.parties.roll)


def test_members_keep_the_model_until_they_see_the_vote() -> None:
    world = voting()
    for decision in (
        b"",
        b"{}",
        world.decided("m1"),
        world.decided("m1", "m2", subject=bytes(32)),
        world.decided("m1", "m2", action="recall"),
        world.decided("m1", "m2", by=founded("other", charter=VOTED)),
        trained(nonce=1, charter=VOTED).decided("m1", "m2"),
    ):
        with pytest.raises(PolicyDenied, match="does not give the final model away"):
            asked(world, decision)
    asked(world, world.decided("m1", "m2"))


def test_one_vote_sent_twice_is_one_vote() -> None:
    world = voting()
    document = json.loads(world.decided("m1"))
    document["votes"] *= 2
    with pytest.raises(PolicyDenied):
        asked(world, json.dumps(document).encode())
    assert APPROVAL in _released()
