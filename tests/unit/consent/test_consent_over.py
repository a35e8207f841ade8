"""A lab's own consent, looked up on its own disk in every round: it expires, the data changes, it is taken back. Real drivers,
journals and machines; the clock is the test's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.identity.consent import BY_RULE, Binding, Outputs
from federation.identity.revocation import Revocation, consent_digest, seal_revocation
from federation.manifest.binding import binding_of, outputs_of
from federation.v1 import rounds_pb2
from node_agent.rounds import training
from tests.unit.agent import homes
from tests.unit.agent.hall import JOB, Bench, Hall, Office

TEXT = JOB + "  rounds: 4\n  finalEvaluation: false\n"
SAID = (rounds_pb2.Ready, rounds_pb2.Upload, rounds_pb2.Ack, rounds_pb2.KeyMessage)


@pytest.fixture(autouse=True)
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Worker", Bench)


def hall_of(folder: Path, **changes: Any) -> Hall:
    hall = Hall(folder / "hall", TEXT)
    for office in hall.offices.values():
        office.agree(binds=bound(hall, office), given=BY_RULE, **changes)
    return hall


def bound(hall: Hall, office: Office) -> Binding:
    """The hall's labs seal a version by turning it round."""
    return binding_of(hall.manifest, data=(("digits", office.data[::-1]),), verdict=bytes(32), roll=bytes(32), plans={})


def played(hall: Hall, end: Callable[[Hall], None], until: Callable[[Hall], bool]) -> Hall:
    async def scene(hall: Hall) -> None:
        await hall.run(until=until)
        end(hall)
        await hall.run()

    return hall.play(scene)


def told_after(office: Office, mark: int) -> list[type]:
    return [type(proto) for proto in office.sent[mark:]]


def closed(count: int) -> Callable[[Hall], bool]:
    return lambda hall: len(hall.closed) == count


def test_a_consent_that_binds_what_is_there_trains_to_the_end(tmp_path: Path) -> None:
    hall = hall_of(tmp_path).play().finished()
    assert all(office.worker.calls.count("train") == 4 for office in hall.offices.values())


def test_a_consent_that_expires_in_the_middle_is_out_at_the_next_round_and_the_others_finish(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    office, mark = hall.offices["fr"], 0

    def ends(hall: Hall) -> None:
        nonlocal mark
        office.clock = lambda: datetime.now(UTC) + 2 * homes.DAY
        mark = len(office.sent)

    played(hall, ends, closed(2))
    assert hall.done is not None
    assert hall.misconduct == []
    assert office.over
    assert set(office.over) == {"expired"}
    assert office.worker.calls.count("train") <= 3
    assert not set(told_after(office, mark)) & {rounds_pb2.Ready, rounds_pb2.Upload, rounds_pb2.KeyMessage}
    cohorts = [each.certificate.survivors.cohort for each in hall.closed]
    assert len(cohorts[0]) == 4
    assert len(cohorts[3]) == 3


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_the_last_second_of_a_consent_is_the_last(tmp_path: Path, seconds: int) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + homes.DAY
    hall = hall_of(tmp_path, expires=ends)
    office = hall.offices["fr"]
    office.clock = lambda: ends + timedelta(seconds=seconds)
    hall.play()
    trained = bool(office.worker.calls)
    assert trained == (seconds <= 0)
    assert bool(office.over) == (seconds > 0)


def test_other_data_than_was_consented_to_is_not_trained_on(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]

    def changes(hall: Hall) -> None:
        office.data = bytes(32)

    played(hall, changes, closed(1))
    assert set(office.over) == {"data"}
    assert office.worker.calls.count("train") <= 2
    assert hall.done is not None


def test_data_that_nobody_can_read_ends_no_consent_and_is_not_trained_on(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]

    def gone() -> tuple[bytes, ...]:
        raise OSError("the disk is away")

    office.versions = gone
    hall.play()
    assert office.over == []
    assert "train" not in office.worker.calls


def test_a_consent_for_other_outputs_or_another_budget_is_not_one(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]
    office.journal_path.unlink()
    binds = replace(bound(hall, office), outputs=Outputs("blind", "", (bytes(32),)))
    assert binds.outputs != outputs_of(hall.manifest)
    office.agree(binds=binds, given=BY_RULE)
    hall.play()
    assert "train" not in office.worker.calls
    assert office.told(rounds_pb2.Upload) == []
    assert "other outputs" in office.told(rounds_pb2.Refusal)[0].text


MOMENTS = {
    "before anything": lambda hall: True,
    "while round 2 is collected": lambda hall: hall.collector.round == 2 and hall.collector.phase == "collecting",
    "when its ACK is due": lambda hall: hall.collector.round == 2 and hall.collector.phase == "certifying",
    "when its REVEAL is due": lambda hall: hall.collector.round == 2 and hall.collector.phase == "revealing",
    "between two rounds": closed(2),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_once_it_is_revoked_nothing_more_is_said_whatever_the_coordinator_says(
    tmp_path: Path, moment: Callable[[Hall], bool]
) -> None:
    """The file alone decides: neither the driver nor the coordinator was told of it."""
    hall = hall_of(tmp_path)
    office, mark = hall.offices["fr"], 0

    def revoke(hall: Hall) -> None:
        nonlocal mark
        with_envelope = office.journal.consent(hall.manifest.digest)
        assert with_envelope is not None
        said = Revocation(
            hall.manifest.digest,
            consent_digest(with_envelope.envelope),
            "fr",
            "fr-1",
            "person",
            "officer",
            datetime.now(UTC),
        )
        office.revocations.put(hall.manifest.digest, seal_revocation(said, office.key), "why")
        mark = len(office.sent)

    async def scene(hall: Hall) -> None:
        await hall.run(until=moment)
        revoke(hall)
        await hall.run(until=lambda hall: bool(hall.closed) and hall.now > 3600)

    hall.play(scene)
    assert told_after(office, mark) == []
    trained = office.worker.calls.count("train")
    assert trained <= 2


def test_a_lab_that_starts_again_finds_that_it_has_revoked(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]

    async def scene(hall: Hall) -> None:
        await hall.run(until=closed(1))
        office.revocations.put(hall.manifest.digest, b"whatever is in it", "")
        await office.restart()
        mark = len(office.sent)
        await hall.run(until=lambda hall: hall.now > 3600)
        assert office.sent[mark:] == []

    hall.play(scene)
    assert "person" in office.over


def test_a_revocation_is_the_first_that_was_written_and_cannot_be_replaced(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    revocations = hall.offices["fr"].revocations
    job = hall.manifest.digest
    assert not revocations.revoked(job)
    assert revocations.put(job, b"first", "why") == b"first"
    assert revocations.put(job, b"second", "another") == b"first"
    assert (revocations.of(job), revocations.words(job)) == (b"first", "why")
    assert revocations.unnoted() == ((job, b"first"),)
    revocations.note(job)
    assert revocations.unnoted() == ()
    assert revocations.revoked(job)
