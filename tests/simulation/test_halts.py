"""Races of orders with starts, crashes and restarts: a stopped job never comes back, and what would let it is caught."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from federation.halt.levels import Level
from node_agent.halt import halts as halts_room
from node_agent.halt.folder import Found, HaltFolder
from node_agent.halt.halts import Halts
from tests.simulation.halting import JOBS, Broken, Desk, Site, World, killed
from tests.unit.halt.given import Officers

SEEDS = 60
STEPS = 90
OFFICERS = Officers()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory: what is synced there costs nothing."""
    monkeypatch.setattr(halts_room, "end", killed)
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[lambda *_: ""])
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        yield made
    finally:
        structlog.configure(**before)
        shutil.rmtree(made)


def run(folder: Path, seed: int, **kinds: Any) -> World:
    world = World(folder / str(seed), seed, OFFICERS, **kinds)
    for _ in range(STEPS):
        world.act()
    world.heal()
    return world


def run_all(folder: Path, **kinds: Any) -> None:
    for seed in range(SEEDS):
        run(folder, seed, **kinds)


def test_whatever_happens_between_an_order_and_a_start_no_stopped_job_comes_back(folder: Path) -> None:
    stopped = running = 0
    for seed in range(SEEDS):
        world = run(folder, seed)
        stopped += sum(world.desk.states[job] == "stopped" for job in JOBS)
        running += sum(each.alive for site in world.sites.values() for each in site.wards.born.values())
    assert stopped > SEEDS / 4, "too few stops: nothing was shown"
    assert running > SEEDS / 4, "too few jobs went on: nothing was shown"


class Unregistered(Halts):
    """Does not know the workers that it was told of."""

    def started(self, job: bytes, pid: int) -> None:
        return


class Forgetful(HaltFolder):
    """Orders do not outlive the process."""

    def read(self, known: frozenset[str] = frozenset()) -> Found:
        return Found((), (), ())


class Remiss(Halts):
    """Reads nothing that lies in its home."""

    def __init__(self, folder: HaltFolder, *rest: Any) -> None:
        super().__init__(Forgetful(folder.root), *rest)


class Lapsed(Halts):
    """Its lease never ends."""

    def granted(self, number: int, standing: Any) -> None:
        super().granted(number, standing)
        self._lease.ends = max(self._lease.ends, 1e12) if self._lease.ends > 0 else self._lease.ends


class Lenient(Halts):
    """Forgets which jobs a stop has reached: a lift brings them back."""

    def end_job(self, job: bytes) -> None:
        return


class Hasty(Desk):
    """After a restart jobs go on as they stood, without a look at the orders."""

    def resume(self) -> None:
        return


class Blind(Desk):
    """Places what is ready, halted or not, and lets what is stopped be placed again."""

    def place(self, job: bytes) -> None:
        if self.states[job] == "stopped" and self.level(job) is not Level.stop:
            self.states[job] = "running"


@pytest.mark.parametrize("kind", [Unregistered, Remiss, Lapsed, Lenient])
def test_a_node_that_lacks_one_of_its_ways_is_caught(folder: Path, kind: type[Halts]) -> None:
    class Lacking(Site):
        pass

    Lacking.kind = kind
    with pytest.raises(Broken):
        run_all(folder, site=Lacking)


@pytest.mark.parametrize("kind", [Hasty, Blind])
def test_a_coordinator_that_lacks_one_of_its_ways_is_caught(folder: Path, kind: type[Desk]) -> None:
    with pytest.raises(Broken):
        run_all(folder, desk=kind)
