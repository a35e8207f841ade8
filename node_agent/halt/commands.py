"""`concord-node halt`, `halts` and `lift`: through the home alone, so that they work with the node running, hung or down."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from federation.errors import InvalidUsage, NotFound
from federation.halt.book import Part
from federation.halt.levels import Level
from federation.halt.order import SignedOrder, read_order
from federation.halt.powers import check_order
from federation.halt.receipt import open_receipt
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from node_agent.halt.folder import HaltFolder
from node_agent.halt.own import OwnHand
from node_agent.settings import Home
from node_agent.store.journal import Journal

PATIENCE_SECONDS: Final = 5.0
"""for a running node to have carried it out; one that has not is killed, and its workers with it"""
LOOK_SECONDS: Final = 0.01
MIN_DIGITS: Final = 6


def own_hand(home: Home) -> OwnHand:
    settings = home.settings()
    key = SigningKey.from_pem(home.read(home.identity_key))
    return OwnHand(settings.federation, settings.member, settings.node, key, HaltFolder(home.halts))


def halt_here(home: Home, job: str, level: str, reason: str) -> None:
    """Raises NotFound for a job that this node does not know."""
    signed = own_hand(home).halt(Level[level], reason, _job(home, job) if job else b"")
    _say(f"order {signed.digest.hex()[:12]} is on disk: {level} of {signed.order.words}")
    _wait(home, signed)


def take_here(home: Home, order: Path, receipt: Path | None) -> None:
    """Raises InvalidIdentity or PolicyDenied for an order that does not bind this node."""
    settings, folder = home.settings(), HaltFolder(home.halts)
    roll = Roll.open(home.read(home.roll, 4 << 20))
    key = SigningKey.from_pem(home.read(home.identity_key)).public
    signed = read_order(_read(order))
    check_order(signed, roll, lambda member, node: key if (member, node) == (settings.member, settings.node) else None)
    if receipt is not None:
        promised = _read(receipt)
        open_receipt(promised, signed.digest, folder.coordinator_key())
        folder.keep_receipt(signed.digest, promised)
    folder.keep_order(signed)
    _say(f"order {signed.digest.hex()[:12]} by {signed.order.by.words} is on disk")
    _wait(home, signed)


def lift_here(home: Home, order: str, reason: str) -> None:
    signed = own_hand(home).lift(order, reason)
    print(f"lifted {signed.digest.hex()[:12]}: {signed.order.level.name} of {signed.order.words}")


def print_halts(home: Home) -> None:
    hand = own_hand(home)
    book = hand.book()
    standing = {signed.digest for signed in book.standing()}
    for signed in sorted(book.orders(), key=lambda signed: (signed.order.issued, signed.digest)):
        order = signed.order
        state = "stands" if signed.digest in standing else "drill" if order.drill else "lifted"
        words = (
            f"{order.level.name:<5}  {state:<6}  {order.words} by {order.by.words}: {order.reason or 'no reason given'}"
        )
        print(f"{signed.digest.hex()[:12]}  {order.issued:%Y-%m-%d %H:%M:%S}  {words}")
    for by in {signed.order.by for signed in book.orders()}:
        if missing := book.missing(by):
            _say(f"of the {by.words} order {', '.join(map(str, missing[:5]))} never came: somebody keeps it back")
    for name in HaltFolder(home.halts).read().unreadable:
        _say(f"{home.halts / name} cannot be read: everything is stopped until it is moved away")
    level = book.level(Part(member=hand.member, node=hand.node))
    _say(f"this node as a whole: {level.name}")


def _wait(home: Home, signed: SignedOrder) -> None:
    """Until a running node has carried it out. One that does not is killed: the order is on disk for its next start."""
    pid, folder = _running(home), HaltFolder(home.halts)
    if pid is None:
        print("the node is not running: it obeys when it starts")
        return
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS:
        done = folder.was_done(signed.digest)
        if done is not None:
            words = f"{done['jobs']} jobs, {done['processes']} processes ended"
            print(f"{signed.order.level.name} here after {time.monotonic() - began:.3f} s ({words})")
            return
        if _running(home) is None:
            print("the node has ended")
            return
        time.sleep(LOOK_SECONDS)
    if signed.order.level is not Level.stop or signed.order.drill:
        _say(f"the node has not answered within {PATIENCE_SECONDS:g} s; the order is on disk")
        return
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=PATIENCE_SECONDS)
    print(f"the node did not answer within {PATIENCE_SECONDS:g} s and was killed, with what it ran")


def _running(home: Home) -> int | None:
    """The process that holds the home; None when nobody does."""
    try:
        descriptor = os.open(home.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(pid) if pid.isdecimal() else None
    finally:
        os.close(descriptor)
    return None


def _job(home: Home, digits: str) -> bytes:
    if len(digits) == 64:
        try:
            return bytes.fromhex(digits)
        except ValueError:
            raise InvalidUsage(f"{digits!r} is no digest.", hint="See: concord-node consents") from None
    known, named = set[bytes](), list[bytes]()
    if home.journal.exists():
        with Journal(home.journal, read_only=True) as journal:
            known = {record.job for record in journal.consents()} | {record.job for record in journal.jobs()}
            named = [record.job for record in journal.consents() if record.name == digits]
    found = named or [job for job in known if len(digits) >= MIN_DIGITS and job.hex().startswith(digits)]
    if len(set(found)) != 1:
        raise NotFound(f"{len(found) or 'No'} jobs here are {digits[:70]!r}.", hint="See: concord-node consents")
    return found[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidUsage(f"{path} cannot be read: {error.strerror}.", hint="Name the file that was signed.") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
