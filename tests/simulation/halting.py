"""Halts in one process: a coordinator that may die between any two steps, nodes that start workers, hear, sleep, die and return.

Real: the book, the effects and states of jobs, the nodes' halts, leases and files. Stand-ins: processes are numbers, the network is
a list for each node, the disk of the coordinator is what it has stored, time is the test's.

What must hold after every step, once a node's watching thread has had its turn:
1. no worker runs where the node's disk holds a stop that reaches its job, or where the lease has ended;
2. a job that a stop has reached, at the coordinator or at a node, is stopped there for ever, whatever is lifted later;
3. at the coordinator nothing is under way that a kept stop reaches, as soon as it has finished starting;
and when everything has been delivered and everybody is up: all agree on what is halted, and what is not halted can be started.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.halts.effects import effect
from coordinator.jobs.lifecycle import ENDED, step
from federation.errors import FederationError
from federation.halt.book import HaltBook, Part
from federation.halt.levels import Level, Step
from federation.halt.order import SignedLift, SignedOrder
from federation.halt.powers import check_lift, check_order
from node_agent.halt.folder import HaltFolder
from node_agent.halt.halts import Halts
from tests.unit.halt.given import LEAD, MEMBERS, Officers, member, node
from tests.unit.halt.test_powers import QUORUM, decide

JOBS = (b"\x0a" * 32, b"\x0b" * 32)
LEASE = 30.0


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Worker:
    """A process that trains, for as long as nobody kills it."""

    job: bytes
    pid: int
    alive: bool = True


class StandIns:
    """In the place of ``Wards``: all workers that were registered."""

    def __init__(self) -> None:
        self.known: dict[int, Worker] = {}
        self.born: dict[int, Worker] = {}

    def add(self, job: bytes, pid: int) -> None:
        self.known[pid] = self.born[pid]

    def jobs(self) -> frozenset[bytes]:
        return frozenset(each.job for each in self.known.values() if each.alive)

    def of(self, jobs: Any = None) -> tuple[Worker, ...]:
        return tuple(each for each in self.known.values() if each.alive and (jobs is None or each.job in jobs))


def killed(wards: Any, term_seconds: float = 0.0) -> int:
    """In the place of ``wards.end``."""
    living = [ward for ward in wards if ward.alive]
    for ward in living:
        ward.alive = False
    return len(living)


class Site:
    """A node: its home stays, its process comes and goes. ``stopped``: its journal's jobs that were stopped."""

    kind: type[Halts] = Halts

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.folder = world, name, world.folder / name
        self.pids = itertools.count(1)
        self.stopped: set[bytes] = set()
        self.reached: set[bytes] = set()
        """what the invariant remembers: jobs that a stop has ever reached here"""
        self.up = False
        self.inbox: list[tuple[str, Any]] = []
        self.connected = False
        self.starting: bytes | None = None
        """a worker is between the question whether it may start, and its first process"""
        self.wards = StandIns()
        self.asked: dict[int, float] = {}
        self.good_until = float("-inf")
        """its lease, as the invariant counts it"""
        self.start()

    def start(self) -> None:
        self.asked.clear()
        self.good_until = float("-inf")

        def key(who: str, which: str) -> bytes | None:
            return self.world.officers.node_key(who, which) if who == self.name else None

        roll = self.world.officers.parties.roll
        self.halts = self.kind(
            HaltFolder(self.folder),
            self.name,
            f"{self.name}-1",
            lambda: LEASE,
            lambda signed: check_order(signed, roll, key),
            lambda lift: check_lift(lift, roll, decide, key),
            lambda: self.world.now,
        )
        self.wards = StandIns()
        self.halts._wards = self.wards  # type: ignore[assignment]
        for job in JOBS:
            self.halts.know(job, "lead")
        for job in self.stopped:
            self.halts.end_job(job)
        self.up = True

    def die(self) -> None:
        """kill -9: its workers die with it."""
        self.up = self.connected = False
        self.starting = None
        self.inbox.clear()
        killed(self.wards.born.values())

    def obey(self) -> None:
        """What the agent does in its loop after each change."""
        for job in JOBS:
            if self.halts.level(job) is Level.stop and job not in self.stopped:
                self.halts.end_job(job)
                self.stopped.add(job)

    def hear(self) -> None:
        kind, what = self.inbox.pop(0)
        try:
            if kind == "order":
                self.halts.take(what.envelope)
            elif kind == "lift":
                self.halts.take_lift(what.envelope)
            else:
                self.halts.granted(*what)
                number, standing = what
                if number in self.asked and set(standing) <= {signed.digest for signed in self.disk().orders()}:
                    self.good_until = max(self.good_until, self.asked[number] + LEASE)
        except FederationError:
            return
        if self.world.dice.random() < 0.5:
            self.obey()

    def ask_to_start(self, job: bytes) -> None:
        if self.starting is None and self.halts.permits(job, Step.finish):
            self.starting = job

    def fork(self) -> None:
        job, self.starting = self.starting, None
        if job is None:
            return
        worker = Worker(job, next(self.pids))
        self.wards.born[worker.pid] = worker
        try:
            self.halts.started(job, worker.pid)
        except FederationError:
            return

    def disk(self) -> HaltBook:
        book, found = HaltBook(), HaltFolder(self.folder).read()
        for signed in found.orders:
            book.take(signed)
        for lift in found.lifts:
            book.lift(lift)
        return book

    def check(self) -> None:
        """By what is on the disk and what was asked when: never by what the node says of itself."""
        if not self.up:
            return
        self.halts.look()
        running = {each.job for each in self.wards.born.values() if each.alive}
        if running and self.world.now >= self.good_until:
            raise Broken(f"1: {self.name} trains without a lease")
        book = self.disk() if running else HaltBook()
        for job in running:
            if book.level(Part(job, self.name, f"{self.name}-1", "lead")) is Level.stop:
                raise Broken(f"1: {self.name} trains a job that its disk says to stop")
        self.reached |= self.stopped
        if self.reached & running or any(self.halts.level(job) is not Level.stop for job in self.reached):
            raise Broken(f"2: {self.name} has a job again that was stopped")


class Crash(Exception):
    """kill -9 of the coordinator, at this place."""


@dataclass
class Desk:
    """The coordinator: ``orders``, ``lifts`` and ``states`` are its disk."""

    world: World
    orders: list[SignedOrder] = field(default_factory=list)
    lifts: list[SignedLift] = field(default_factory=list)
    states: dict[bytes, str] = field(default_factory=lambda: dict.fromkeys(JOBS, "ready"))
    ever_stopped: set[bytes] = field(default_factory=set)
    up: bool = True

    def __post_init__(self) -> None:
        self.book = HaltBook()

    def die(self) -> None:
        self.up = False
        for site in self.world.sites.values():
            site.connected = False
            site.inbox.clear()

    def start(self) -> None:
        self.book = HaltBook()
        for signed in self.orders:
            self.book.take(signed)
        for lift in self.lifts:
            self.book.lift(lift)
        self.up = True
        self.resume()

    def resume(self) -> None:
        self.effects()

    def give(self, signed: SignedOrder | SignedLift) -> None:
        """Stored, told, followed: it may die after each."""
        try:
            if isinstance(signed, SignedOrder):
                if not self.book.take(signed):
                    return
                self.point()
                self.orders.append(signed)
            else:
                check_lift(signed, self.world.officers.parties.roll, decide, self.world.officers.node_key)
                if not self.book.lift(signed):
                    return
                self.lifts.append(signed)
            self.point()
            for site in self.world.sites.values():
                self.tell(site, signed)
                self.point()
            self.effects()
        except Crash:
            self.die()
        except FederationError:
            return

    def point(self) -> None:
        if self.world.dice.random() < self.world.crashes:
            raise Crash

    def tell(self, site: Site, signed: SignedOrder | SignedLift) -> None:
        if site.connected:
            site.inbox.append(("order" if isinstance(signed, SignedOrder) else "lift", signed))

    def attend(self, site: Site) -> None:
        site.connected = True
        site.inbox.clear()
        site.halts.new_stream()
        for signed in (*self.orders, *self.lifts):
            self.tell(site, signed)

    def grant(self, site: Site, number: int) -> None:
        standing = [signed.digest for signed in self.book.standing() if self.is_for(signed, site.name)]
        site.inbox.append(("lease", (number, standing)))

    @staticmethod
    def is_for(signed: SignedOrder, name: str) -> bool:
        order = signed.order
        return order.by.id == name if order.by.kind == "node" else order.member in {"", name}

    def level(self, job: bytes) -> Level:
        return self.book.level(Part(job, "", "", "lead"))

    def effects(self) -> None:
        for job in JOBS:
            if self.states[job] not in ENDED and (to := effect(self.level(job), self.states[job], "")):
                self.become(job, to)

    def become(self, job: bytes, to: str) -> None:
        self.states[job] = step(self.states[job], to)
        if to == "stopped":
            self.ever_stopped.add(job)

    def place(self, job: bytes) -> None:
        """A race with a start: what is ready is placed unless it is halted."""
        if self.states[job] == "ready" and self.level(job) is Level.none:
            self.become(job, "running")

    def check(self) -> None:
        for job in JOBS:
            if job in self.ever_stopped and self.states[job] != "stopped":
                raise Broken("2: a stopped job has come back at the coordinator")
            kept = any(_stops(signed, job) for signed in self.orders if not _lifted(signed, self.lifts))
            if self.up and kept and self.states[job] not in ENDED:
                raise Broken("3: a job goes on that a kept order stops")


def _stops(signed: SignedOrder, job: bytes) -> bool:
    order = signed.order
    whole = order.scope == "federation" or (order.scope == "job" and order.job == job and not order.member)
    return order.level is Level.stop and not order.drill and whole


def _lifted(signed: SignedOrder, lifts: list[SignedLift]) -> bool:
    return any(lift.lifted.digest == signed.digest for lift in lifts)


class World:
    def __init__(
        self, folder: Path, seed: int, officers: Officers, desk: type[Desk] = Desk, site: type[Site] = Site
    ) -> None:
        self.folder, self.officers = folder, officers
        self.dice, self.crashes, self.now = random.Random(seed), 0.05, 1000.0
        self.sites: dict[str, Site] = {}
        self.sites = {name: site(self, name) for name in MEMBERS}
        self.desk = desk(self)

    def order(self) -> SignedOrder:
        level = self.dice.choice([Level.hold, Level.drain, Level.stop])
        job, who = self.dice.choice(JOBS), self.dice.choice(MEMBERS)
        return self.dice.choice(
            [
                lambda: self.officers.order(level, LEAD, scope="job", job=job),
                lambda: self.officers.order(level, member(who), scope="job", job=job, member=who),
                lambda: self.officers.order(level, member(who), scope="member", member=who),
                lambda: self.officers.order(level, node(who), scope="member", member=who),
                lambda: self.officers.order(level, member(who)),
                lambda: self.officers.order(level, member(who), drill=True),
            ]
        )()

    def lift(self) -> None:
        known = self.desk.book.orders()
        if known and self.desk.up:
            signed = self.dice.choice(known)
            self.desk.give(self.officers.lift(signed, decision=QUORUM + signed.digest))

    def act(self) -> None:
        desk, site = self.desk, self.sites[self.dice.choice(MEMBERS)]
        acts: list[tuple[int, Callable[[], object]]] = [
            (6, lambda: site.hear() if site.up and site.inbox else None),
            (3, lambda: self.lease(site)),
            (3, lambda: site.ask_to_start(self.dice.choice(JOBS)) if site.up else None),
            (3, lambda: site.fork() if site.up else None),
            (2, lambda: desk.place(self.dice.choice(JOBS)) if desk.up else None),
            (2, lambda: desk.give(self.order()) if desk.up else None),
            (1, lambda: site.halts.folder.keep_order(self.own(site))),
            (1, self.lift),
            (2, lambda: desk.attend(site) if desk.up and site.up and not site.connected else None),
            (1, lambda: site.inbox.clear() if site.inbox and self.cut(site) else None),
            (1, lambda: site.die() if site.up else site.start()),
            (1, lambda: None if desk.up else desk.start()),
            (1, lambda: site.obey() if site.up else None),
            (1, self.sleep),
        ]
        self.dice.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()
        self.check()

    def own(self, site: Site) -> SignedOrder:
        """What `concord-node halt` writes, whether the node runs or not."""
        level = self.dice.choice([Level.hold, Level.stop])
        return self.officers.order(level, node(site.name), scope="member", member=site.name)

    def cut(self, site: Site) -> bool:
        site.connected = False
        return True

    def sleep(self) -> None:
        self.now += self.dice.choice([1.0, 10.0, 40.0])

    def lease(self, site: Site) -> None:
        if site.up and site.connected and self.desk.up:
            number = site.halts.ask()
            site.asked[number] = self.now
            self.desk.grant(site, number)

    def check(self) -> None:
        self.desk.check()
        for site in self.sites.values():
            site.check()

    def heal(self) -> None:
        """Everybody is up, and all is delivered."""
        self.crashes = 0.0
        if not self.desk.up:
            self.desk.start()
        for site in self.sites.values():
            if not site.up:
                site.start()
            self.desk.attend(site)
            self.lease(site)
            while site.inbox:
                site.hear()
            site.obey()
            self.check()
            for job in JOBS:
                mine = [signed for signed in site.halts.orders() if signed.order.by.kind == "node"]
                level = site.halts.level(job)
                told = self.desk.book.level(Part(job, site.name, f"{site.name}-1", "lead"))
                if level < told or (level > told and not mine and job not in site.stopped):
                    raise Broken(f"{site.name} says {level.name}, the coordinator {told.name}")
                site.starting = None
                site.ask_to_start(job)
                site.fork()
                trains = any(each.alive and each.job == job for each in site.wards.born.values())
                if trains != (level is not Level.stop):
                    raise Broken(f"{site.name}: a job that is {level.name} {'trains' if trains else 'does not train'}")
            self.check()
