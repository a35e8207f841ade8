"""Attacks on consent: a hidden revocation, a consent for another digest, a consent after its time. Real drivers and journals."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.jobs.revocations import answer_of
from coordinator.store.database import ConsentRow
from federation.errors import InvalidIdentity, VerificationFailed
from federation.identity.consent import BY_RULE, open_consent, seal_consent
from federation.identity.keys import SigningKey
from federation.identity.revocation import Revocation, consent_digest, open_revocation, seal_revocation
from federation.v1 import rounds_pb2
from node_agent.rounds import training
from tests.unit.agent.hall import Bench, Hall, Office
from tests.unit.consent.test_consent_over import TEXT, bound, closed, hall_of

SPEAKS = (rounds_pb2.KeyMessage, rounds_pb2.RosterSignature, rounds_pb2.Ready, rounds_pb2.Upload)


@pytest.fixture(autouse=True)
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Worker", Bench)


def said(office: Office, mark: int = 0) -> list[object]:
    return [proto for proto in office.sent[mark:] if isinstance(proto, SPEAKS)]


def revocation_of(hall: Hall, office: Office, consent: bytes, **changes: object) -> Revocation:
    job, now = hall.manifest.digest, datetime.now(UTC).replace(microsecond=0)
    said = Revocation(job, consent_digest(consent), office.name, f"{office.name}-1", "person", "officer", now)
    return dataclasses.replace(said, **changes)  # type: ignore[arg-type]


def test_a_revocation_that_the_coordinator_hides_ends_the_members_part_all_the_same(tmp_path: Path) -> None:
    """46: the collector hears nothing of it, names the member in every roster and announcement, and replays its old consent."""
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]
    hall.hear_of_the_end = False

    async def scene(hall: Hall) -> None:
        await hall.run(until=closed(2))
        record = office.journal.consent(hall.manifest.digest)
        assert record is not None
        office.revocations.put(
            hall.manifest.digest, seal_revocation(revocation_of(hall, office, record.envelope), office.key)
        )
        office.journal.answer(record, hall.manifest.envelope)  # the old consent, again
        mark = len(office.sent)
        await office.restart()
        await hall.run()
        assert office.sent[mark:] == []

    hall.play(scene)
    assert hall.done is not None
    assert hall.collector.left == frozenset()
    assert [len(each.certificate.survivors.cohort) for each in hall.closed][2:] == [3, 3]


@pytest.mark.parametrize("whose", ["another job's", "another member's", "nobody's"])
def test_a_consent_for_another_digest_is_none(tmp_path: Path, whose: str) -> None:
    """47: whatever lies on the disk under this job's name, it is read as what was signed."""
    hall = Hall(tmp_path / "hall", TEXT)
    office = hall.offices["fr"]
    binds = bound(hall, office)
    changes = {
        "another job's": {"job": bytes(32)},
        "another member's": {"member": "ke", "node": "ke-1"},
        "nobody's": {},
    }
    key = SigningKey.generate() if whose == "nobody's" else office.key
    office.agree(key=key, binds=binds, given=BY_RULE, **changes[whose])
    hall.play()
    assert hall.done is not None
    assert said(office) == []
    assert office.worker.calls == []
    assert office.told(rounds_pb2.Refusal)[0].code == "policy-denied"


@pytest.mark.parametrize("late", [timedelta(seconds=1), timedelta(days=400)])
def test_a_consent_after_its_time_is_none_whatever_the_coordinator_says(tmp_path: Path, late: timedelta) -> None:
    """48: from the second after, in the middle of a job, by the lab's own clock."""
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]
    hall.hear_of_the_end = False
    ends, mark = office.consent().expires, 0

    async def scene(hall: Hall) -> None:
        nonlocal mark
        await hall.run(until=closed(1))
        office.clock = lambda: ends + late
        mark = len(office.sent)
        await hall.run()

    hall.play(scene)
    assert hall.done is not None
    assert said(office, mark) == []
    assert set(office.over) == {"expired"}
    assert office.worker.calls.count("train") <= 2


def test_a_revocation_cannot_be_turned_against_another_consent_nor_made_by_another(tmp_path: Path) -> None:
    """What the coordinator makes of it: it is signed by the node, and names the very consent that it ends."""
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]
    consent = seal_consent(office.consent(), office.key)
    assert open_consent(consent, office.credential).granted
    envelope = seal_revocation(revocation_of(hall, office, consent), office.key)
    read = open_revocation(envelope, office.credential)
    granted = ConsentRow("fr", "fr-1", "granted", (), consent)
    taken = answer_of(read, granted)
    assert (taken.new, taken.answer.state, taken.answer.envelope) == (True, "revoked", consent)
    assert not answer_of(read, taken.answer).new
    with pytest.raises(VerificationFailed):
        answer_of(read, ConsentRow("fr", "fr-1", "granted", (), consent + b" "))
    with pytest.raises(InvalidIdentity):
        open_revocation(seal_revocation(read, SigningKey.generate()), office.credential)
    with pytest.raises(InvalidIdentity):
        open_revocation(seal_revocation(dataclasses.replace(read, node="fr-2"), office.key), office.credential)
    with pytest.raises(InvalidIdentity):
        open_revocation(envelope, hall.offices["ke"].credential)
