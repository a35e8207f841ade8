"""A node's part in a job's rounds: what it votes is on its disk first, what it trains its lab agreed to, what fails stays out."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from federation.errors import NotFound, TaskFailed, Unavailable
from federation.identity.keys import SigningKey
from federation.secagg import wire
from federation.secagg.cohorts import FigureEntry
from federation.secagg.events import RememberFigures
from federation.secagg.messages import Ack, Ready, Receipt, Upload
from federation.v1 import rounds_pb2
from federation.weights.layout import Layout
from federation.weights.state import ModelState, file_limit, read_state, write_state
from node_agent.rounds import driver, training, uploads
from node_agent.rounds.outbox import event_of
from node_agent.store.journal import Journal
from tests.unit.agent.hall import DATA, JOB, PEOPLE, ROUTE, Bench, Hall, Office, model

STEPS = dict(zip(PEOPLE, (0.25, 0.5, 0.75, 1.0), strict=True))
MEAN = sum((1 << place) * STEPS[name] for place, name in enumerate(PEOPLE)) / 15


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Workers are of this process; what the labs log."""
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return paced(Hall(tmp_path / "hall"))


def paced(hall: Hall) -> Hall:
    """Each lab learns something else."""
    for name, office in hall.offices.items():
        office.worker.step = STEPS[name]
    return hall


# ------------------------------------------------------------------------------------------------------------ from end to end


def test_a_large_update_leaves_while_it_is_made_and_again_from_where_it_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lab's way breaks in the middle, twice: what is sent again are the same bytes, since the hall checks the signed root."""
    monkeypatch.setattr(uploads, "INLINE_UPDATE", 8)
    hall = paced(Hall(tmp_path / "hall", JOB + "  rounds: 1\n"))
    offsets: dict[str, list[int]] = {name: [] for name in PEOPLE}
    signed: set[str] = set()

    def breaking(office: Office, offset: int) -> None:
        offsets[office.name].append(offset)
        if office.name == PEOPLE[0] and len(offsets[office.name]) in (2, 4):
            raise Unavailable("The way broke.", hint="")

    hall.on_part = breaking
    hall.on_send = lambda office, proto: signed.add(office.name) if isinstance(proto, rounds_pb2.Upload) else None
    hall.play(Hall.run, Hall.settle).finished()
    assert signed == set(PEOPLE)
    assert offsets[PEOPLE[0]][:6] == [0, 24, 24, 48, 48, 72]
    assert offsets[PEOPLE[1]][:4] == [0, 24, 48, 72]
    assert len(set(hall.states(2).values())) == 1


def test_nothing_of_an_update_leaves_when_its_task_fails(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "INLINE_UPDATE", 8)
    office = hall.offices[PEOPLE[0]]
    office.worker.trained = lambda arrays: {**arrays, "bias": np.full(4, np.nan, np.float32)}
    hall.play(Hall.run, Hall.settle)
    assert not any(name == office.name for _, name in hall.parts)


@pytest.mark.parametrize("inline", [True, False])
def test_every_lab_takes_the_weighted_mean_and_nothing_is_left_of_the_work(tmp_path: Path, inline: bool) -> None:
    """Two rounds of training and one that evaluates alone."""
    hall = paced(Hall(tmp_path / "hall", JOB + "  rounds: 2\n"))
    hall.inline = inline
    hall.play(Hall.run, Hall.settle).finished()
    assert len(set(hall.states(3).values())) == 1
    assert len(hall.states(3)) == len(PEOPLE)
    for office in hall.offices.values():
        arrays = read_state(office.files.state(3)).arrays
        assert list(arrays) == list(model())
        for name in ("weight", "bias"):
            np.testing.assert_allclose(arrays[name], 2 * MEAN, atol=1e-3)
        assert arrays["steps"] == 0  # a buffer of integers keeps the round's value
        assert office.worker.calls == ["initial", "evaluate", "train", "evaluate", "train", "evaluate"]
        assert office.worker.starts == 1
        assert not office.worker.alive
        assert office.counted == {"contributions": 3, "audits": 3, "rounds": 3}
        assert list(office.files.updates.iterdir()) == []
        assert sorted(path.name for path in office.files.states.iterdir()) == ["2.safetensors", "3.safetensors"]
        with Journal(office.journal_path) as journal:
            kept = [key.split("/") for key in journal.records(hall.manifest.digest)]
        votes = {(kind, int(round)) for kind, _epoch, round, _attempt in (key for key in kept if len(key) == 4)}
        assert {round for kind, round in votes if kind != "receipt"} == {3}, "the votes of settled rounds are erased"


def test_each_round_trains_on_the_state_that_its_members_certified(hall: Hall) -> None:
    hall.play().finished()
    for office in hall.offices.values():
        for models, expected in zip(office.worker.models, (0.0, MEAN), strict=True):
            np.testing.assert_allclose(models["bias"], expected, atol=1e-3)


# ------------------------------------------------------------------------------------------------------------- votes and deaths

RECORDS: dict[type, str] = {Ready: "ready", Upload: "upload", Ack: "ack", Receipt: "receipt"}


def test_a_vote_is_on_disk_before_anybody_hears_it(hall: Hall) -> None:
    """Read by another connection at the moment that each is sent."""
    checked = set()

    def look(office: Office, proto: Any) -> None:
        if isinstance(proto, rounds_pb2.Progress | rounds_pb2.StateStored):
            return
        message = wire.from_proto(proto)
        if type(message) in RECORDS:
            with Journal(office.journal_path, read_only=True) as journal:
                records = journal.records(hall.manifest.digest)
            kind = RECORDS[type(message)]
            assert any(message.signature in value for key, value in records.items() if key.startswith(f"{kind}/")), kind
            checked.add(kind)

    hall.on_send = look
    hall.play().finished()
    assert checked == set(RECORDS.values())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_labs_that_are_killed_at_any_write_go_on_and_never_vote_twice(tmp_path: Path, after: bool) -> None:
    """One death of each lab in each run, far apart; each write of a job is met, every other one before it and the rest after."""
    apart = 6
    for first in range(1 + after, apart + 1, 2):
        hall = Hall(tmp_path / str(first))
        for place, office in enumerate(hall.offices.values()):
            office.kill_at, office.after = first + apart * place, after
        hall.play(Hall.run, Hall.settle).finished()
        assert sum(office.kills for office in hall.offices.values()) >= 2
        states = set(hall.states(3).values())
        assert states == {hall.done.state_digest}  # type: ignore[union-attr]


def test_a_write_that_fails_is_done_again_and_nothing_is_said_before_it_is_done(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk that somebody clears: the vote that could not be kept is not cast, and nothing is lost."""
    monkeypatch.setattr(driver, "FIRST_PAUSE", 0.001)
    office = hall.offices["fr"]
    said: list[int] = []

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: any(isinstance(m, Ready) and n == "fr" for n, m in hall.heard))
        remember = office.journal.remember

        def full(*records: Any) -> None:
            said.append(len(office.sent))
            if len(said) < 4:
                raise Unavailable("The journal cannot be used now: database or disk is full.")
            remember(*records)

        office.journal.remember = full  # type: ignore[method-assign]
        await hall.run()

    hall.play(scene).finished()
    assert len(said) > 4
    meanwhile = [proto for proto in office.sent[said[0] : said[3]] if not isinstance(proto, rounds_pb2.Progress)]
    assert meanwhile == []
    assert set(hall.states(3).values()) == {hall.done.state_digest}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------------- consent


def none(office: Office) -> None:
    Journal(office.journal_path).close()


def denied(office: Office) -> None:
    office.agree(granted=False, weight=0)


def expired(office: Office) -> None:
    office.agree(expires=datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1))


def by_another_key(office: Office) -> None:
    office.agree(key=SigningKey.generate())


def to_another_job(office: Office) -> None:
    office.agree(job=bytes(32))


def without_figures(office: Office) -> None:
    office.agree(figures=())


ONE = JOB + "  rounds: 1\n  finalEvaluation: false\n"
CLAIMS = [none, denied, expired, by_another_key, to_another_job, without_figures]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_nothing_of_a_job_runs_without_the_lab_s_own_consent_on_its_own_disk(
    tmp_path: Path, claim: Callable[[Office], None]
) -> None:
    """The coordinator says all that it would say to a lab that agreed."""
    hall = Hall(tmp_path / "hall", ONE)
    office = hall.offices["fr"]
    claim(office)
    hall.play()
    assert office.worker.starts == 0
    assert office.worker.calls == []
    assert office.told(rounds_pb2.Upload) == []
    assert {failure.exception for failure in office.told(rounds_pb2.TaskFailure)} <= {
        "policy-denied",
        "invalid-identity",
    }
    if claim is expired:
        assert set(office.over) == {"expired"}
    else:
        assert office.told(rounds_pb2.Refusal)
    assert {refusal.code for refusal in office.told(rounds_pb2.Refusal)} <= {"policy-denied", "invalid-identity"}
    for said in (rounds_pb2.KeyMessage, rounds_pb2.RosterSignature, rounds_pb2.Ready):
        assert office.told(said) == []
    assert hall.misconduct == []


def test_consent_that_ends_between_two_rounds_ends_the_work_of_this_lab(hall: Hall) -> None:
    office = hall.offices["fr"]

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: len(hall.closed) == 1)
        with sqlite3.connect(office.journal_path) as database:  # the lab's operator has second thoughts
            database.execute("DELETE FROM consents")
        database.close()
        await hall.run()

    hall.play(scene).finished()
    assert office.worker.calls.count("train") == 1
    assert len(office.told(rounds_pb2.Upload)) == 1
    assert office.told(rounds_pb2.Refusal)[0].code == "policy-denied"
    assert hall.closed[-1].certificate.survivors.cohort == (1, 3, 4)


# --------------------------------------------------------------------------------------------------------------- faulty tasks


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(arrays: dict[str, Any]) -> dict[str, Any]:
        filled = arrays[name].copy()
        filled.flat[-1] = value
        return {**arrays, name: filled}

    return change


REPLIES = {"NaN": changed("bias", np.nan), "another shape": lambda arrays: {**arrays, "bias": arrays["bias"][:3]}}


def stays_out(hall: Hall, office: Office) -> rounds_pb2.TaskFailure:
    """This lab's contribution to round 1 is left out; all else is as ever."""
    hall.play().finished()
    assert hall.closed[0].certificate.survivors.cohort == (1, 3, 4)
    assert len(hall.closed[-1].certificate.survivors.cohort) == 4
    assert list(office.files.updates.iterdir()) == []
    failures = office.told(rounds_pb2.TaskFailure)
    assert len(failures) == 1
    assert office.counted["task_failures"] == 1
    failure: rounds_pb2.TaskFailure = failures[0]
    assert failure.round == 1
    return failure


def once(office: Office, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    office.worker.trained = lambda arrays: change(arrays) if len(office.worker.models) == 1 else arrays


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_that_does_not_fit_the_model_is_not_contributed(hall: Hall, reply: str) -> None:
    office = hall.offices["fr"]
    once(office, REPLIES[reply])
    failure = stays_out(hall, office)
    assert failure.phase == "reply"
    assert "patients" not in str(failure)


def test_a_figure_that_is_no_number_is_not_contributed(hall: Hall) -> None:
    for loss in (float("nan"), float("inf")):
        office = hall.offices["fr"]
        office.worker.loss = loss
    hall.play().finished()
    assert office.told(rounds_pb2.Upload) == []
    failure = office.told(rounds_pb2.TaskFailure)[0]
    assert failure.exception == "The metric evaluate/eval_loss is not a finite number."
    assert all(round.certificate.survivors.cohort == (1, 3, 4) for round in hall.closed)


def test_the_lead_learns_the_place_of_an_exception_and_never_its_words(hall: Hall) -> None:
    office = hall.offices["fr"]
    secret = "patient 4711"
    words = {"exception": "KeyError", "file": "tiny/task.py", "line": 7, "phase": "train"}

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: any(isinstance(m, Ready) and n == "fr" for n, m in hall.heard))
        office.worker.errors = [TaskFailed(f"It failed: {secret}", hint=secret, **words)]  # type: ignore[arg-type]
        await hall.run()

    hall.play(scene).finished()
    failure = office.told(rounds_pb2.TaskFailure)[0]
    assert (failure.exception, failure.file, failure.line, failure.phase) == ("KeyError", "tiny/task.py", 7, "train")
    assert not [proto for proto in office.sent if secret in str(proto)]


def test_nobody_outside_learns_where_things_lie_at_a_lab_and_by_which_way_it_speaks(tmp_path: Path) -> None:
    """The agent's own sentences name data, folders and the proxy; the lab's log keeps them so."""
    hall = Hall(tmp_path / "hall", LONGER)
    office = hall.offices["fr"]
    secrets = (str(DATA), str(office.folder), "inner.lab")

    def broken(audited: Any, parts: list[rounds_pb2.AuditPart]) -> list[rounds_pb2.AuditPart]:
        if audited is office and len(hall.closed) == 1:
            raise Unavailable(f"A transfer from {ROUTE.place} stood still; {office.folder}/job/sum is cut.")
        return parts

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: any(isinstance(m, Ready) and n == "fr" for n, m in hall.heard))
        office.worker.errors = [Unavailable(f"The data set 'digits' is not at {DATA}.")] * 3
        hall.on_audit = broken
        await hall.run()

    hall.play(scene).finished()
    assert office.told(rounds_pb2.TaskFailure)
    assert "sum-not-applied" in refused(office)
    assert not [proto for proto in office.sent for secret in secrets if secret in str(proto)]


@pytest.mark.parametrize(("deaths", "starts", "failed"), [(2, 3, False), (3, 3, True)])
def test_a_worker_that_dies_is_started_again_three_times_at_most(
    hall: Hall, deaths: int, starts: int, failed: bool
) -> None:
    office = hall.offices["fr"]
    office.worker.errors = [Unavailable(f"The worker process died ({n}).") for n in range(deaths)]
    hall.play(lambda hall: hall.run(until=lambda hall: office.counted["task_failures"] or hall.closed))
    assert office.worker.starts == starts
    assert bool(office.counted["task_failures"]) == failed
    failures = office.told(rounds_pb2.TaskFailure)
    assert [failure.phase for failure in failures] == ["initial-model"] * failed


# ------------------------------------------------------------------------------------------- what the coordinator claims

LONGER = JOB + "  rounds: 3\n  finalEvaluation: false\n"
SUMS: dict[str, Callable[[bytes], bytes]] = {
    "altered": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[:-8],
}


def test_each_lab_audits_each_sum(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "hall", LONGER)
    hall.play().finished()
    assert all(office.counted["audits"] >= 3 for office in hall.offices.values())


def _altered(parts: list[rounds_pb2.AuditPart]) -> list[rounds_pb2.AuditPart]:
    parts[1].data = bytes([parts[1].data[0] ^ 1]) + parts[1].data[1:]
    return parts


AUDITS = {
    "a chunk altered": _altered,
    "a member left out": lambda parts: parts[1:],
    "malformed": lambda parts: [rounds_pb2.AuditPart(index=part.index, data=part.data) for part in parts],
    "no index": lambda parts: [rounds_pb2.AuditPart()] * len(parts),
}


def refused(office: Office) -> list[str]:
    """Which checks a lab's refusals name; while it is behind it can judge no cohort, and says that, too."""
    codes = [refusal.code.removeprefix("protocol-violation/") for refusal in office.told(rounds_pb2.Refusal)]
    return [code for code in codes if code != "behind"]


@pytest.mark.parametrize("how", AUDITS)
def test_a_sum_that_does_not_pass_the_audit_is_not_applied(tmp_path: Path, how: str) -> None:
    hall = Hall(tmp_path / "hall", LONGER)
    office = hall.offices["fr"]
    hall.on_audit = lambda audited, parts: AUDITS[how](parts) if audited is office and len(hall.closed) == 1 else parts
    hall.play().finished()
    assert set(refused(office)) == {"sum-refused"}
    assert len(set(hall.states(4).values())) == 1, "it takes the state that a quorum certified"


def test_a_lab_that_is_shown_nothing_signs_nothing_for_that_sum(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "hall", LONGER)
    office = hall.offices["fr"]

    def nothing(audited: Any, parts: list[rounds_pb2.AuditPart]) -> list[rounds_pb2.AuditPart]:
        if audited is office and len(hall.closed) == 1:
            raise NotFound("The round is over.")
        return parts

    hall.on_audit = nothing
    hall.play().finished()
    assert set(refused(office)) == {"sum-not-applied"}
    assert not [receipt for receipt in office.told(rounds_pb2.Receipt) if receipt.round == 1]
    assert len(set(hall.states(4).values())) == 1


@pytest.mark.parametrize("how", SUMS)
def test_a_sum_other_than_the_announced_one_is_refused_and_the_lab_catches_up(tmp_path: Path, how: str) -> None:
    hall = Hall(tmp_path / "hall", LONGER)
    office = hall.offices["fr"]

    def carry(name: str, proto: Any) -> Any:
        if name == "fr" and isinstance(proto, rounds_pb2.Close) and proto.round == 1:
            changed = type(proto).FromString(proto.SerializeToString())
            changed.inline_sum = SUMS[how](bytes(proto.inline_sum))
            return changed
        return proto

    hall.carry = carry
    hall.play().finished()
    assert refused(office) == ["sum-refused"]
    assert office.counted["refusals"] == len(office.told(rounds_pb2.Refusal))
    assert len(set(hall.states(4).values())) == 1
    assert len(office.told(rounds_pb2.Upload)) >= 2


@pytest.mark.parametrize("data", [b"", bytes(1000)], ids=["empty", "zeros"])
def test_garbage_in_the_place_of_a_sum_does_not_stop_the_lab(hall: Hall, data: bytes) -> None:
    """Fetched, not inline: its digest is right, for the coordinator named that digest itself."""
    office = hall.offices["fr"]
    hall.inline = False
    hall.blobs[hashlib.sha256(data).digest()] = data

    def carry(name: str, proto: Any) -> Any:
        if name == "fr" and isinstance(proto, rounds_pb2.Close) and proto.round == 1:
            changed = type(proto).FromString(proto.SerializeToString())
            changed.sum_blob = hashlib.sha256(data).digest()
            return changed
        return proto

    hall.carry = carry
    hall.play().finished()
    assert [refusal.code for refusal in office.told(rounds_pb2.Refusal)][:1] == ["protocol-violation/sum-refused"]
    assert len(set(hall.states(3).values())) == 1


def another_state() -> bytes:
    """Of the same round and layout, with weights that nobody certified."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        write_state(path, ModelState(2, {**model(), "bias": np.full(4, 9, np.float32)}, {}, np.zeros(1, np.int8)))
        return path.read_bytes()


HOSTILE = {"no header": b'\x08\0\0\0\0\0\0\0"string"', "noise": b"\xff" * 50, "another": another_state()}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_state_that_is_not_the_certified_one_is_not_taken(tmp_path: Path, what: str, logged: list[Any]) -> None:
    """The lab missed round 1; what it is first given in its place is another file, then the state itself."""
    hall, data = Hall(tmp_path / "hall", LONGER), HOSTILE[what]
    office, served = hall.offices["fr"], []

    def carry(name: str, proto: Any) -> Any:
        if name == "fr" and isinstance(proto, rounds_pb2.Close) and proto.round == 1:
            return None
        if name == "fr" and isinstance(proto, rounds_pb2.CatchUp) and not served:
            served.append(hall.blobs[proto.state_blob])
            hall.blobs[proto.state_blob] = data
        return proto

    async def scene(hall: Hall) -> None:
        hall.carry = carry
        await hall.run(until=lambda hall: bool(served))
        await hall.run(until=lambda hall: not hall.mail)
        await hall.settle()
        assert office.driver.machine.position.round == 1
        assert not office.dead
        assert {refusal.blob for refusal in office.told(rounds_pb2.StateRefused)} == {
            hashlib.sha256(served[0]).digest()
        }
        hall.blobs[hashlib.sha256(served[0]).digest()] = served[0]
        await office.restart()
        await hall.run()

    hall.play(scene).finished()
    events = [line["event"] for line in logged]
    known = Layout.of(read_state(office.files.state(4)).arrays).size
    assert file_limit(known) in hall.limits, "of a state no more is taken than its model can fill"
    assert max(hall.limits) == file_limit(known)
    assert "state.not-fetched" in events
    assert "driver.failed" not in events
    assert len(set(hall.states(4).values())) == 1


MESSAGES = (rounds_pb2.Form, rounds_pb2.Roster, rounds_pb2.RosterCertificate, rounds_pb2.Announcement,
            rounds_pb2.Survivors, rounds_pb2.Certificate, rounds_pb2.Recover, rounds_pb2.AbortRequest, rounds_pb2.Close,
            rounds_pb2.CatchUp, rounds_pb2.ProvideState)  # fmt: skip


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_no_nonsense_of_the_coordinator_moves_or_stops_a_lab(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Empty and broken messages of every kind, in the middle of a job: refused, and the job comes to its end."""
    hall = Hall(tmp_path_factory.mktemp("nonsense") / "hall", ONE)
    office = hall.offices["fr"]
    moment = data.draw(st.integers(1, 12))
    kinds = data.draw(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=6))
    blobs = data.draw(st.lists(st.binary(max_size=40), min_size=3, max_size=3))

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: len(office.sent) >= moment)
        before = office.driver.machine.position
        for kind in kinds:
            proto = kind()
            for place, name in enumerate(kind.DESCRIPTOR.fields_by_name):
                field = kind.DESCRIPTOR.fields_by_name[name]
                if field.type == field.TYPE_BYTES and not field.is_repeated:
                    setattr(proto, name, blobs[place % 3])
            office.driver.hear(proto)
        await hall.run()
        assert office.driver.machine.position.round >= before.round

    hall.play(scene).finished()
    assert len(set(hall.states(2).values())) == 1


# ------------------------------------------------------------------------------------------------------------------- its states


def test_a_certified_state_replaces_what_this_lab_computed_for_training_too(hall: Hall) -> None:
    """Its own first model came out differently (another library, say); it takes the one that a quorum certified, wholly."""
    office = hall.offices["fr"]
    place = office.files

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: len(hall.closed) == 1 and not hall.mail)
        await hall.settle()
        other = ModelState(2, {**model(), "bias": np.full(4, 9, np.float32)}, {}, np.zeros(1, np.int8))
        own = read_state(place.state(2))
        place.keep(other)
        np.testing.assert_array_equal(training.read_arrays(place.show(other))["bias"], 9)
        place.keep(own)
        np.testing.assert_allclose(training.read_arrays(place.show(own))["bias"], MEAN, atol=1e-3)
        await hall.run()

    hall.play(scene).finished()
    np.testing.assert_allclose(office.worker.models[1]["bias"], MEAN, atol=1e-3)


def gone(path: Path) -> None:
    path.unlink()


def of_an_earlier_round(path: Path) -> None:
    path.write_bytes(path.with_name("1.safetensors").read_bytes())


@pytest.mark.parametrize("damage", [gone, of_an_earlier_round], ids=lambda damage: damage.__name__)
def test_a_lab_that_lost_its_state_trains_on_nothing_else_and_takes_a_later_one(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """A power cut took the file; the journal knows what it should be."""
    hall = Hall(tmp_path / "hall", JOB + "  rounds: 4\n  finalEvaluation: false\n")
    office = hall.offices["fr"]

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: len(hall.closed) == 1 and not hall.mail)
        await hall.settle()
        damage(office.files.state(2))
        await office.restart()
        await hall.run()

    hall.play(scene, Hall.settle).finished()
    cohorts = {closed.round: closed.certificate.survivors.cohort for closed in hall.closed}
    assert cohorts[1] == (1, 2, 3, 4)
    assert cohorts[2] == (1, 3, 4)
    assert cohorts[4] == (1, 2, 3, 4)
    refused = [refusal for refusal in office.told(rounds_pb2.Refusal) if refusal.code.endswith("/sum-not-applied")]
    assert refused
    assert all("This lab could not apply" in refusal.text and "garbage" not in refusal.text for refusal in refused)
    assert len(set(hall.states(5).values())) == 1
    for arrays in office.worker.models:  # every lab adds 0.25 a round
        assert arrays["bias"][0] in (0, 0.5, 0.75, 1), arrays


def test_a_state_is_given_to_who_asks_for_one_that_is_here(hall: Hall) -> None:
    office = hall.offices["fr"]

    async def scene(hall: Hall) -> None:
        await hall.run()
        last = office.driver.machine.position
        digest = last.state_digest
        before = len(office.sent)
        for wanted in (digest, bytes(32), b"", digest[:-1]):
            office.driver.hear(rounds_pb2.ProvideState(epoch=1, round=last.round, state_digest=wanted))
        await hall.settle()
        given = office.sent[before:]
        assert [proto.state_digest for proto in given if isinstance(proto, rounds_pb2.StateStored)] == [digest]
        (hall.folder / "given").write_bytes(hall.blobs[given[-1].blob])
        assert read_state(hall.folder / "given").digest() == digest

    hall.play(scene).finished()


def test_an_event_carries_each_message_in_the_field_of_its_kind() -> None:
    kinds = {
        GetMessageClass(field.message_type): name
        for name, field in rounds_pb2.NodeEvent.DESCRIPTOR.fields_by_name.items()
        if field.message_type
    }
    assert len(kinds) > 10
    for kind, name in kinds.items():
        event = event_of(b"job", kind())
        assert (event.WhichOneof("event"), event.job) == (name, b"job")


# ------------------------------------------------------------------------------------------------------------------- figures


def entries(office: Office) -> dict[int, FigureEntry]:
    """By round, from the lab's own disk."""
    with Journal(office.journal_path, read_only=True) as journal:
        found = [entry for job, entry in journal.figures() if job == office.hall.manifest.digest]
    assert len({entry.round for entry in found}) == len(found)
    return {entry.round: entry for entry in found}


def test_the_journal_says_what_left_of_which_model_over_which_cohort(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "hall", JOB + "  rounds: 2\n")
    acked: set[str] = set()

    def entered(office: Office, proto: Any) -> None:
        if isinstance(proto, rounds_pb2.Ack):
            assert entries(office), "on disk before it is said"
            acked.add(office.name)

    hall.on_send = entered
    hall.play().finished()
    assert acked == set(PEOPLE)
    for office in hall.offices.values():
        found = entries(office)
        assert {number: entry.cohort for number, entry in found.items()} == dict.fromkeys((1, 2, 3), PEOPLE)
        assert all(entry.opened and entry.data == office.data for entry in found.values())
        assert "update" in found[1].figures
        assert "train/train_loss" in found[1].figures
        assert all(name.startswith("evaluate/") for name in found[3].figures), "the last round does not train"
        assert len({entry.weights for entry in found.values()}) == 3
        assert read_state(office.files.state(3)).weights_digest() == found[3].weights


def test_a_lab_does_not_let_figures_of_a_model_out_over_another_cohort(tmp_path: Path) -> None:
    """Its journal says that an earlier job evaluated the first model over five members; the others have no such journal."""
    hall = Hall(tmp_path / "hall", LONGER)
    office = hall.offices["fr"]
    office.agree()
    first = ModelState(1, model(), {}, np.zeros(1, np.int8)).weights_digest()
    before = FigureEntry(first, office.data, 1, 1, 0, (*PEOPLE, "xk"), ("evaluate/loss",), True)
    with Journal(office.journal_path) as journal:
        journal.remember(bytes(32), {}, [RememberFigures(put=(before,))])
    hall.play().finished()
    assert "figure-cohort" in refused(office)
    assert not [upload for upload in office.told(rounds_pb2.Upload) if upload.context == hall.closed[0].context]
    cohorts = [closed.certificate.survivors.cohort for closed in hall.closed]
    assert cohorts[0] == (1, 3, 4), "the others are enough"
    assert cohorts[1:] == [(1, 2, 3, 4)] * (len(cohorts) - 1), "the next model is another"
    assert len(set(hall.states(4).values())) == 1
    text = office.told(rounds_pb2.Refusal)[0].text
    assert "left this lab in job 000000000000 as sums over ch, fr, ke, us, xk" in text
    assert "spec.model.seed" in text


def test_where_the_data_cannot_be_read_nothing_leaves(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "hall", ONE)
    office = hall.offices["fr"]

    def gone() -> tuple[bytes, ...]:
        raise FileNotFoundError("data/digits")

    office.versions = gone
    hall.play().finished()
    assert refused(office) == ["figure-cohort"] * len(refused(office)) != []
    assert office.told(rounds_pb2.Upload) == office.told(rounds_pb2.Ack) == []
    assert hall.closed[0].certificate.survivors.cohort == (1, 3, 4)
