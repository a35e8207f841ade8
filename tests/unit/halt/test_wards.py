"""The end of what trains: every process of a worker, whatever it does about signals, and at whatever moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from federation.errors import FederationError, Halted, Unavailable
from federation.halt.levels import Level, Step
from federation.halt.order import SignedOrder
from federation.halt.powers import check_lift, check_order
from node_agent.halt.folder import HaltFolder
from node_agent.halt.gpus import holders
from node_agent.halt.halts import Halts
from node_agent.halt.wards import Wards, end, rehearse
from tests.unit.halt.given import JOB, LEAD, OTHER, Officers, member, node
from tests.unit.halt.test_powers import decide

OFFICERS = Officers()
ROLL = OFFICERS.parties.roll
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        break
print("up", flush=True)
while True:
    time.sleep(1)
"""
LONG = 3600.0


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """It and its two children ignore SIGTERM."""
    command = [sys.executable, "-S", "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as made:
        assert made.stdout is not None
        made.stdout.readline()
        try:
            yield made
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(made.pid, signal.SIGKILL)


def own_key(member: str, node: str) -> bytes | None:
    return OFFICERS.node_key(member, node) if member == "fr" else None


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def halts_of(folder: Path, lease: float = LONG, clock: Any = None, *, leased: bool = True) -> Halts:
    made = Halts(
        HaltFolder(folder / "halts"),
        "fr",
        "fr-1",
        lambda: lease,
        lambda signed: check_order(signed, ROLL, own_key),
        lambda lift: check_lift(lift, ROLL, decide, own_key),
        **({"clock": clock} if clock is not None else {}),
    )
    made.know(JOB, "lead")
    if leased:
        made.granted(made.ask(), [])
    return made


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_group_that_ignores_sigterm_is_killed_whole(process: subprocess.Popen[bytes]) -> None:
    tree = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    wards = Wards()
    wards.add(JOB, process.pid)
    assert len(wards.of({JOB})) == 1
    assert wards.of({OTHER}) == ()
    began = time.monotonic()
    assert end(wards.of(), 0.1) >= 2
    assert time.monotonic() - began < 3.0
    assert all(gone(pid) for pid in tree)
    assert wards.of() == ()


def test_another_process_that_has_got_the_number_is_left_alone(process: subprocess.Popen[bytes]) -> None:
    wards = Wards()
    wards.add(JOB, process.pid)
    (ward,) = wards.of()
    later = type(ward)(ward.job, ward.pid, ward.started + 1.0)
    assert end([later]) == 0
    assert not gone(process.pid)
    end([ward])


@pytest.mark.parametrize("way", ["order", "command", "file that cannot be read", "lease"])
def test_the_thread_ends_a_worker_without_the_event_loop(
    process: subprocess.Popen[bytes], tmp_path: Path, way: str
) -> None:
    """Nobody runs a loop here: an agent that hangs stops all the same."""
    clock = Clock()
    halts = halts_of(tmp_path, 30.0, clock)
    halts.started(JOB, process.pid)
    halts.look()
    assert not gone(process.pid)
    if way == "order":
        halts.take(OFFICERS.order(Level.stop, member("ch")).envelope)
    elif way == "command":
        HaltFolder(tmp_path / "halts").keep_order(OFFICERS.order(Level.stop, node("fr"), scope="member", member="fr"))
    elif way == "lease":
        clock.now += 30.0
    else:
        (tmp_path / "halts" / f"{'0' * 64}.order.json").write_text("{}")
    halts.look()
    assert gone(process.pid)


def test_holds_and_drills_end_no_process(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    halts = halts_of(tmp_path)
    halts.started(JOB, process.pid)
    halts.take(OFFICERS.order(Level.hold, member("ch")).envelope)
    halts.take(OFFICERS.order(Level.drain, member("ch")).envelope)
    halts.take(OFFICERS.order(Level.stop, member("ch"), drill=True).envelope)
    halts.look()
    assert not gone(process.pid)
    assert not halts.permits(JOB, Step.begin)
    assert halts.permits(JOB, Step.finish)


def test_nothing_runs_before_the_first_lease_and_after_the_machine_slept(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The clock goes on while the machine sleeps: who wakes has no lease left over."""
    clock = Clock()
    halts = halts_of(tmp_path, 30.0, clock, leased=False)
    assert not halts.permits(JOB, Step.finish)
    asked = halts.ask()
    clock.now += 10.0
    halts.granted(asked, [])
    clock.now += 19.9
    assert halts.permits(JOB, Step.finish)
    clock.now += 8 * 3600.0
    assert not halts.permits(JOB, Step.finish)
    with pytest.raises(Unavailable, match="lease ended"):
        halts.started(JOB, process.pid)
    assert gone(process.pid)


def test_a_lease_that_names_an_order_which_the_node_lacks_is_none(tmp_path: Path) -> None:
    halts = halts_of(tmp_path, leased=False)
    hold = OFFICERS.order(Level.hold, member("ch"))
    halts.granted(halts.ask(), [hold.digest])
    assert not halts.permits(JOB, Step.finish)
    halts.take(hold.envelope)
    halts.granted(halts.ask(), [hold.digest])
    assert halts.permits(JOB, Step.finish)


def orders() -> list[SignedOrder]:
    return [
        OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB),
        OFFICERS.order(Level.hold, member("ch")),
        OFFICERS.order(Level.drain, member("fr"), scope="member", member="fr"),
    ]


def test_what_was_taken_is_on_disk_and_is_there_after_any_end(tmp_path: Path) -> None:
    first = halts_of(tmp_path)
    taken = orders()
    for signed in taken:
        first.take(signed.envelope)
        assert (tmp_path / "halts" / f"{signed.digest.hex()}.order.json").read_bytes() == signed.envelope
    first.take_lift(OFFICERS.lift(taken[2]).envelope)
    again = halts_of(tmp_path)
    for job in (JOB, OTHER):
        assert again.level(job) == first.level(job)
    assert (again.level(JOB), again.level(OTHER)) == (Level.stop, Level.hold)


def test_a_full_disk_stops_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halts = halts_of(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HaltFolder, "keep_order", full)
    halts.take(OFFICERS.order(Level.stop, member("ch")).envelope)
    assert halts.level(JOB) is Level.stop


def test_orders_that_do_not_bind_this_node_change_nothing(tmp_path: Path) -> None:
    halts = halts_of(tmp_path)
    for signed in (
        OFFICERS.order(Level.stop, node("ke"), scope="member", member="ke"),
        OFFICERS.order(Level.stop, LEAD),
        OFFICERS.order(Level.stop, member("ke"), key=OFFICERS.node_keys["ke"]),
    ):
        with pytest.raises(FederationError):
            halts.take(signed.envelope)
    halts.take(OFFICERS.order(Level.stop, member("ke"), scope="member", member="ke").envelope)
    halts.take(OFFICERS.order(Level.stop, LEAD, scope="job", job=OTHER).envelope)
    assert halts.level(JOB) is Level.none
    assert list((tmp_path / "halts").glob("*.order.json")) != []


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 1.0])
def test_a_stop_at_any_moment_of_a_workers_start_leaves_no_process(scene: Any, tmp_path: Path, delay: float) -> None:
    """The race with a start, with real workers: before the fork, while it loads, while it trains."""
    halts = halts_of(tmp_path)
    signed = OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB)

    async def story() -> None:
        halts.start()
        try:
            work = asyncio.create_task(train())
            await asyncio.sleep(delay)
            halts.take(signed.envelope)
            with pytest.raises(FederationError):
                await work
            while halts.halted_workers():
                await asyncio.sleep(0.01)
            with pytest.raises(Halted):
                await halts.admit(JOB, Step.finish)
            with pytest.raises(FederationError):
                await train()
        finally:
            halts.stop()

    async def train() -> None:
        async with scene.worker(started=lambda pid: halts.started(JOB, pid)) as worker:
            await scene.train(worker, "hang-with-children", timeout=600.0)

    scene.run(story())
    assert scene.processes() == []


def test_whoever_waits_goes_on_when_the_hold_is_lifted(tmp_path: Path) -> None:
    halts = halts_of(tmp_path)
    hold = OFFICERS.order(Level.hold, member("fr"), scope="member", member="fr")

    async def story() -> list[str]:
        halts.start()
        seen: list[str] = []
        try:
            halts.take(hold.envelope)
            waiting = asyncio.create_task(halts.admit(JOB, Step.begin))
            await asyncio.wait({waiting}, timeout=0.1)
            seen.append("waits" if not waiting.done() else "went on")
            halts.take_lift(OFFICERS.lift(hold).envelope)
            await asyncio.wait_for(waiting, 5.0)
            seen.append("goes on")
        finally:
            halts.stop()
        return seen

    assert asyncio.run(story()) == ["waits", "goes on"]


def test_sigkill_to_a_stopped_tree_is_enough(process: subprocess.Popen[bytes]) -> None:
    """A worker that is itself suspended does not hear SIGTERM."""
    os.killpg(process.pid, signal.SIGSTOP)
    wards = Wards()
    wards.add(JOB, process.pid)
    end(wards.of(), 0.05)
    assert gone(process.pid)


def test_a_drill_ends_a_process_of_its_own_that_ignores_sigterm() -> None:
    began = time.monotonic()
    assert rehearse(0.05) == 1
    assert time.monotonic() - began > 0.05


def test_a_stop_waits_until_the_driver_says_that_the_gpu_is_free(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [frozenset({process.pid, 1}), frozenset({process.pid}), frozenset({1})]
    monkeypatch.setattr("node_agent.halt.gpus.holders", lambda: answers.pop(0))
    wards = Wards()
    wards.add(JOB, process.pid)
    end(wards.of(), 0.01)
    assert answers == []


def test_memory_that_the_driver_never_gives_back_is_said(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.halt.gpus.holders", lambda: frozenset({process.pid}))
    monkeypatch.setattr("node_agent.halt.wards.GONE_SECONDS", 0.1)
    wards = Wards()
    wards.add(JOB, process.pid)
    with pytest.raises(TimeoutError, match="memory on a GPU"):
        end(wards.of(), 0.01)
    assert gone(process.pid)


class Driver:
    """As pynvml, with two devices, of which one tells no graphics processes."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        return [SimpleNamespace(pid=10 + device)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, device: int) -> list[Any]:
        if device:
            raise self.NVMLError
        return [SimpleNamespace(pid=20)]


def test_holders_of_gpu_memory_are_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    monkeypatch.setattr("node_agent.halt.gpus.DRIVER", tmp_path)
    assert holders() == {10, 11, 20}
    assert driver.open == 0
    monkeypatch.setattr("node_agent.halt.gpus.DRIVER", tmp_path / "none")
    assert holders() == frozenset()


def test_a_shorter_lease_of_a_new_charter_holds_from_the_next_question_on(tmp_path: Path) -> None:
    clock, charter = Clock(), [30.0]
    halts = Halts(
        HaltFolder(tmp_path / "halts"), "fr", "fr-1", lambda: charter[0], lambda _: None, lambda _: None, clock
    )
    charter[0] = 5.0
    halts.granted(halts.ask(), [])
    clock.now += 4.9
    assert halts.permits(JOB, Step.finish)
    clock.now += 0.1
    assert not halts.permits(JOB, Step.finish)
