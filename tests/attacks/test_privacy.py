"""Attacks on differential privacy: noise that is left out, a coordinator that announces it away, budgets that are overrun."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.errors import FederationError, InvalidIdentity, TaskFailed, Unavailable
from federation.manifest.manifest import open_manifest
from federation.privacy.accounting import epsilon_of
from federation.privacy.budget import Budget, account
from federation.privacy.sensitivity import rounded_bound
from federation.privacy.terms import MEMBER, SKELLAM, Privacy, givers
from federation.secagg import encoding as codes
from federation.secagg.events import FetchSum, MaskPlan
from federation.secagg.header import Header
from federation.secagg.messages import Ready, Upload
from federation.secagg.opening import Sum
from federation.secagg.parameters import Quorums
from federation.v1 import rounds_pb2
from node_agent.consent.decision import plans_of
from node_agent.rounds import training
from node_agent.rounds.training import STARTS
from node_agent.rounds.uploads import Uploads
from node_agent.store.journal import Journal
from tests.simulation.harness import World
from tests.unit.agent.hall import JOB, Bench, Hall, Office
from tests.whole import encode

SIZE = 4000
EXPONENT = -6
NORM = 2.0

PRIVATE = (
    JOB + "  rounds: 2\n  finalEvaluation: false\n  privacy: {unit: member, delta: 1e-6, noiseMultiplier: 2.0}\n"
    "  secureAggregation: {clipNorm: 8.0}\n"
)


class Listening(World):
    """Keeps the levels of the sums that members see."""

    def __init__(self, n: int, **parts: Any) -> None:
        super().__init__(n, **parts)
        self.levels: list[np.ndarray] = []
        self.cohorts: list[int] = []
        """their sizes, as each member opened a sum"""

    def opened(self, fetch: FetchSum) -> Sum:
        found = super().opened(fetch)
        self.levels.append(np.concatenate([np.array(chunk) for chunk in found.chunks()]))
        self.cohorts.append(len(fetch.cohort))
        return found


def world_of(n: int) -> Listening:
    """Updates of nothing: what members see is the noise."""
    bounds = {f"{kind}_scale_exponent": EXPONENT for kind in ("initial", "min", "max")}
    return Listening(
        n,
        size=SIZE,
        difference=lambda _name, _round: np.zeros(SIZE, np.float32),
        rounds=1,
        clip_norm=NORM,
        metrics=(),
        chunk_parameters=4096,
        privacy=Privacy(SKELLAM, MEMBER, 1.0, 5.0, 1e-6),
        **bounds,
    )


@pytest.mark.parametrize("n", [4, 7])
def test_f_members_leave_out_their_noise_and_others_drop_and_the_variance_still_meets_the_target(n: int) -> None:
    """Attack 29, in the smallest cohort that can be certified: through the real machines, masks and MAC."""
    quorums = Quorums.of(n)
    world = world_of(n)
    world.silent |= {f"m{k}" for k in range(1, quorums.f + 1)}
    for k in range(quorums.m + 1, n + 1):
        world.kill_before.add((f"m{k}", "Upload"))
    world.begin().run()
    assert world.done is not None
    assert world.cohorts == [quorums.m] * quorums.m
    target = rounded_bound(NORM * 2.0**-EXPONENT, SIZE) ** 2
    found = world.levels[0].astype(float).var()
    assert abs(found / target - 1) < 5 * math.sqrt(2 / SIZE), (
        "exactly what the honest members of the smallest cohort give"
    )
    assert quorums.m - quorums.f == givers(quorums.m, quorums.f)


def test_one_member_more_that_leaves_out_its_noise_does_miss_the_target() -> None:
    """The measurement has teeth: beyond f the promise ends."""
    n, quorums = 7, Quorums.of(7)
    world = world_of(n)
    world.silent |= {f"m{k}" for k in range(1, quorums.f + 2)}
    for k in range(quorums.m + 1, n + 1):
        world.kill_before.add((f"m{k}", "Upload"))
    world.begin().run()
    target = rounded_bound(NORM * 2.0**-EXPONENT, SIZE) ** 2
    assert world.levels[0].astype(float).var() < 0.75 * target


def test_every_attempt_has_noise_of_its_own_and_a_resend_is_the_same_bytes() -> None:
    """The same key twice would let two sums be subtracted; other bytes for one attempt would average the noise away."""
    world = world_of(4)
    world.fail_task.add("m1")
    world.begin().run()
    files = [data for lab in world.labs.values() for data in lab.files.values()]
    assert len({bytes(data) for data in files}) == len(files)
    uploads: dict[tuple[bytes, int], set[bytes]] = {}
    for lab in world.labs.values():
        for message in lab.sent:
            if isinstance(message, Upload):
                uploads.setdefault((message.context, message.index), set()).add(message.root)
    assert {len(roots) for roots in uploads.values()} == {1}
    noises = {plain[:64] for attempt in world.plain.values() for plain in attempt.values()}
    assert len(noises) == sum(len(attempt) for attempt in world.plain.values())


# --------------------------------------------------------------------------------------------- the member's accountant


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hall:
    monkeypatch.setattr(training, "Worker", Bench)
    return Hall(tmp_path / "hall", PRIVATE)


def charged(hall: Hall, name: str) -> int:
    with Journal(hall.offices[name].journal_path, read_only=True) as journal:
        return sum(times for entry in journal.ledger("digits") for times in entry.charged.values())


def test_a_charge_is_on_disk_before_any_byte_of_its_upload_leaves(hall: Hall) -> None:
    """Read by another connection at the moment that each upload is sent."""
    seen: list[tuple[str, int]] = []

    def look(office: Office, proto: Any) -> None:
        if isinstance(proto, rounds_pb2.Upload):
            seen.append((office.name, charged(hall, office.name)))

    hall.on_send = look
    hall.play().finished()
    assert {count for _, count in seen} == {1, 2}
    assert {charged(hall, name) for name in hall.offices} == {2}
    privacy = hall.manifest.privacy
    assert privacy is not None
    with Journal(hall.offices["fr"].journal_path, read_only=True) as journal:
        spent = account(journal.ledger("digits"), None, privacy.delta, MEMBER).spent
    assert spent <= privacy.epsilon <= spent * 1.0001


def test_a_large_update_that_leaves_while_it_is_made_is_charged_before_its_first_byte(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, seen = Uploads.begin, []

    def look(uploads: Uploads, context: bytes, update: Any) -> None:
        name = uploads._lab.credential.member
        with Journal(hall.offices[name].journal_path, read_only=True) as journal:
            (entry,) = journal.ledger("digits")
        seen.append((sum(entry.charged.values()), update.path.stat().st_size))
        begin(uploads, context, update)

    monkeypatch.setattr(Uploads, "begin", look)
    hall.play().finished()
    assert {size for _, size in seen} == {0}
    assert sorted(count for count, _ in seen) == [1] * 4 + [2] * 4


def test_a_member_whose_budget_ends_in_the_middle_uploads_nothing_more_whatever_is_announced(hall: Hall) -> None:
    """Attack 23: the coordinator goes on to announce; the lab has lowered its budget to what one round costs."""
    privacy = hall.manifest.privacy
    assert privacy is not None
    (charge,) = plans_of(hall.manifest, ("digits",))["digits"]
    once = epsilon_of({charge: 1}, 1e-6, MEMBER)
    hall.offices["fr"].budgets = {"digits": Budget(once * 1.001, 1e-6, MEMBER)}
    hall.play().finished()
    assert charged(hall, "fr") == 1
    assert len(hall.offices["fr"].told(rounds_pb2.Upload)) == 1
    (failure,) = hall.offices["fr"].told(rounds_pb2.TaskFailure)
    assert (failure.exception, failure.round) == ("budget-exhausted", 2)
    assert hall.offices["fr"].worker.calls.count("train") == 1, "refused before it was trained"
    assert [len(hall.updates[each.context]) for each in hall.closed] == [4, 3]


def test_an_aborted_attempt_costs_nothing_and_its_upload_is_never_opened(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks fail once: of four members two have uploaded, which is no cohort. The attempt is aborted, the next is charged."""
    for name in ("ch", "us"):
        worker = hall.offices[name].worker
        train, failed = worker.train, []

        async def once(*given: Any, train: Any = train, failed: list[int] = failed) -> Any:
            if not failed:
                failed.append(1)
                while sum(map(len, hall.updates.values())) < 2:  # the others have uploaded
                    await asyncio.sleep(0)
                raise TaskFailed("out of luck")
            return await train(*given)

        monkeypatch.setattr(worker, "train", once)
    hall.play().finished()
    uploads = {
        name: len({proto.context for proto in office.told(rounds_pb2.Upload)}) for name, office in hall.offices.items()
    }
    assert uploads == {"ch": 2, "fr": 3, "ke": 3, "us": 2}
    assert {charged(hall, name) for name in hall.offices} == {2}
    with Journal(hall.offices["fr"].journal_path, read_only=True) as journal, journal._asking() as run:
        rows = run("SELECT round, attempt, forgone FROM charges ORDER BY round, attempt").fetchall()
    assert rows == [(1, 0, 1), (1, 1, 0), (2, 0, 0)]


def test_a_job_is_never_charged_more_often_than_was_consented_to(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab that consented to one round's privacy: a coordinator's further rounds and attempts get nothing of it."""
    office = hall.offices["fr"]
    plans = {name: dict.fromkeys(each, 1) for name, each in plans_of(hall.manifest, ("digits",)).items()}
    agreed = office.agree

    def once() -> None:
        agreed()
        with sqlite3.connect(office.journal_path) as database:
            database.execute("UPDATE plans SET times=?", (next(iter(plans["digits"].values())),))
        database.close()

    monkeypatch.setattr(office, "agree", once)
    hall.play().finished()
    assert charged(hall, "fr") == 1
    assert len(office.told(rounds_pb2.Upload)) == 1


def test_a_budget_that_a_lab_sets_while_a_bare_job_runs_ends_that_job_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its updates would leave without noise, and so without a charge."""
    monkeypatch.setattr(training, "Worker", Bench)
    hall = Hall(tmp_path / "hall")
    office = hall.offices["fr"]

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: len(hall.closed) == 1)
        office.budgets["digits"] = Budget(8.0, 1e-6, MEMBER)  # which it reads when it starts again
        await hall.run()

    hall.play(scene).finished()
    assert len(office.told(rounds_pb2.Upload)) == 1
    assert {refusal.code for refusal in office.told(rounds_pb2.Refusal)} == {"budget-exhausted"}
    assert office.worker.calls.count("train") == 1
    assert hall.closed[-1].certificate.survivors.cohort == (1, 3, 4)


FAILURES: dict[str, FederationError] = {
    "raised": TaskFailed("It failed.", exception="KeyError", file="tiny/task.py", line=4711, phase="train"),
    "check": TaskFailed("The task failed in train: the reply lacks the weight.", file="tiny/task.py", line=4711),
    "died": Unavailable("The worker process died in train (exit status 47)."),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_task_that_fails_tells_nothing_without_noise(hall: Hall, failure: str) -> None:
    """Its code chooses class, line and status by what it saw: exact words about one lab, which no ledger is charged for."""
    office = hall.offices["fr"]

    async def scene(hall: Hall) -> None:
        await hall.run(until=lambda hall: any(isinstance(m, Ready) and n == "fr" for n, m in hall.heard))
        office.worker.errors = [FAILURES[failure]] * STARTS
        await hall.run()

    hall.play(scene).finished()
    (said, *_) = office.told(rounds_pb2.TaskFailure)
    assert (said.exception, said.phase, said.file, said.line) == (FAILURES[failure].code, "train", "", 0)


def test_privacy_cannot_be_announced_away(hall: Hall) -> None:
    """Attack 23: what the coordinator sends is the manifest, and any other noise is another job, which no lead signed."""
    envelope, payload = json.loads(hall.manifest.envelope), hall.manifest.payload
    for before, after in ((b'"noiseMultiplier":2', b'"noiseMultiplier":9'), (b'"epsilon":', b'"epsilom":')):
        assert before in payload
        forged = base64.b64encode(payload.replace(before, after)).decode()
        with pytest.raises(InvalidIdentity):
            open_manifest(
                json.dumps({**envelope, "payload": forged}, separators=(",", ":")).encode(), hall.parties.roll
            )


def test_an_agent_that_lost_its_noise_sends_nothing() -> None:
    """Defence in depth: where the job has privacy, the encoder refuses to work without."""
    world = world_of(3)
    code = codes.encoding_of(world.terms, 3, 1)
    header = Header.of(world.terms, 1, 0.0, {})
    plan = MaskPlan(bytes(32), ())
    with pytest.raises(FederationError, match="no noise"):
        next(encode(np.zeros(SIZE, np.float32), header, plan, code, np.full(1, EXPONENT, np.int8)))


# ------------------------------------------------------------------------------------------------- the task's own promise

RECORDS = (
    JOB + "  rounds: 2\n  finalEvaluation: false\n  localSteps: 20\n"
    "  privacy: {unit: record, mechanism: dp_sgd, delta: 1e-6, noiseMultiplier: 1.5, sampleRate: 0.05, recordClip: 2.0}\n"
)


def test_a_records_job_tells_the_task_its_numbers_and_is_charged_by_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "Worker", Bench)
    hall, told = Hall(tmp_path / "hall", RECORDS), []
    worker = hall.offices["fr"].worker
    train = worker.train

    async def listening(path: Path, out: Path, config: Any, timeout: float) -> Any:
        told.append(dict(config))
        return await train(path, out, config, timeout)

    monkeypatch.setattr(worker, "train", listening)
    hall.play().finished()
    assert [each["privacy-noise-multiplier"] for each in told] == [1.5, 1.5]
    assert {each["privacy-sample-rate"] for each in told} == {0.05}
    assert {each["privacy-record-clip"] for each in told} == {2.0}
    privacy = hall.manifest.privacy
    assert privacy is not None
    with Journal(hall.offices["fr"].journal_path, read_only=True) as journal:
        entries = journal.ledger("digits")
    assert account(entries, None, 1e-6, "record").spent == pytest.approx(privacy.epsilon, rel=1e-5)
    assert account(entries, None, 1e-6, MEMBER).spent == math.inf, "it promises a member nothing"
    for office in hall.offices.values():  # and no figures, though the worker had some
        assert all(not receipt.figures for receipt in office.told(rounds_pb2.Receipt))
