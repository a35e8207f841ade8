"""`concord halt`, `lift` and `drill`: who has stopped, and when, as the nodes sign it; and who has not."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.client import audit_source as sources
from coordinator.client.files import PUBLIC_FILE, about, read_file, write_new_file
from coordinator.client.halts import Halt, HaltCalls, keep, make_lift, make_order, signer_of
from coordinator.client.home import Home
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.sdk import Federation
from coordinator.client.terminal import Format, data, plain, say, show, table
from federation.audit.proof import verify_inclusion
from federation.errors import TABLE, FederationError, Halted, InvalidUsage, NotFound, VerificationFailed
from federation.halt.levels import Level
from federation.halt.order import SignedOrder, read_order
from federation.halt.powers import check_order, lease_seconds
from federation.identity.names import checked_label

HALTED_EXIT_CODE: Final = TABLE[Halted.code].exit_code
DIGEST_DIGITS: Final = 64
MORE_SECONDS: Final = 1.0
"""after the last lease has ended"""


class LevelName(StrEnum):
    hold = "hold"
    drain = "drain"
    stop = "stop"


ViaOption = Annotated[
    Path | None, typer.Option("--via", help="A home that is logged in, where your own is not: it carries the order.")
]
JobOption = Annotated[str, typer.Argument(help="The job's name or digest; none with --federation, or for a member.")]


def halt(
    job: JobOption = "",
    member: Annotated[str, typer.Option(help="A member: all its nodes, or with a job its part in that.")] = "",
    whole: Annotated[bool, typer.Option("--federation", help="Everything.")] = False,
    level: Annotated[
        LevelName | None, typer.Option(help="hold: begin nothing new; drain: end the round, then stop; stop: at once.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the members; it does not go into the log.")] = "",
    order: Annotated[Path | None, typer.Option("--order", help="Give an order that was signed elsewhere.")] = None,
    out: Annotated[Path | None, typer.Option(help="Sign only, and write the order to this file.")] = None,
    home: HomeOption = DEFAULT_HOME_PATH,
    via: ViaOption = None,
) -> None:
    """Halt a job, a member or the federation, and show which nodes have done so; exit code 7 when one has not in time."""
    place = Home.at(home)
    with ExitStack() as stack:
        sessions = _Sessions(stack, Home.at(via) if via is not None else place)
        if order is not None:
            with about(order):
                signed = read_order(read_file(order, what="The order"))
        else:
            if level is None or not reason:
                raise InvalidUsage("An order says how far it goes, and why.", hint="Add --level and --reason.")
            if bool(job or member) == whole:
                raise InvalidUsage(
                    "Name what to halt.", hint="A job, --member M, a job with --member M, or --federation."
                )
            signed = _ordered(place, sessions, job, member, Level[level.value], reason, drill=False)
        if out is not None:
            write_new_file(out, signed.envelope, PUBLIC_FILE, what="an order")
            say(f"signed, and given to nobody: {out}. Whoever holds it may give it: concord halt --order {out}")
            return
        calls = sessions.calls()
        began = time.monotonic()
        receipt = calls.give(signed)
        kept = keep(sessions.home, f"{signed.digest.hex()}.receipt.json", receipt)
        say(f"order {signed.digest.hex()[:12]} was taken after {time.monotonic() - began:.3f} s; its receipt: {kept}")
        last = _followed(calls, signed, began, lease_seconds(sessions.home.required_roll()), data)
        _say_of_whom_nothing_is_told(last, sessions.home)
        logged = _is_logged(sessions.federation(), signed)
    raise typer.Exit(_outcome(last) if logged else HALTED_EXIT_CODE)


def lift(
    digest: Annotated[str, typer.Argument(help="The order, by the first digits of its digest.")],
    reason: Annotated[str, typer.Option(help="Why, for the members.")],
    decision: Annotated[
        Path | None, typer.Option(help="The members' decision; needed for what is not your own.")
    ] = None,
    home: HomeOption = DEFAULT_HOME_PATH,
    via: ViaOption = None,
) -> None:
    """Lift a halt: your own, or another by a decision of the members. A stop of a job is final."""
    place = Home.at(home)
    with ExitStack() as stack:
        calls = _Sessions(stack, Home.at(via) if via is not None else place).calls()
        found = calls.find(digest)
        voted = read_file(decision, what="The decision") if decision is not None else b""
        calls.lift(make_lift(place, found.signed.envelope, reason, voted))
    data(f"lifted {found.signed.digest.hex()[:12]}: {found.signed.order.level.name} of {found.signed.order.words}")


def drill(
    job: JobOption = "",
    level: Annotated[LevelName, typer.Option(help="With --really: hold the job, so that no process ends.")] = (
        LevelName.stop
    ),
    really: Annotated[
        bool, typer.Option("--really", help="Hold the named job while it lasts; else nothing that runs is touched.")
    ] = False,
    home: HomeOption = DEFAULT_HOME_PATH,
    via: ViaOption = None,
    output: FormatOption = Format.table,
) -> None:
    """Rehearse a halt: order it, measure until every node has answered, and lift it. Each node ends a process made for it."""
    place = Home.at(home)
    if really and (not job or level is not LevelName.hold):
        raise InvalidUsage(
            "A drill that touches what runs holds one job.", hint="concord drill JOB --really --level hold"
        )
    with ExitStack() as stack:
        sessions = _Sessions(stack, Home.at(via) if via is not None else place)
        signed = _ordered(place, sessions, job, "", Level[level.value], "a drill", drill=not really)
        calls = sessions.calls()
        began = time.monotonic()
        calls.give(signed)
        try:
            last = _followed(calls, signed, began, lease_seconds(sessions.home.required_roll()), say)
        finally:
            calls.lift(make_lift(place, signed.envelope, "the drill is over"))
    seconds = sorted(each.said.took_microseconds / 1e6 for each in last.answers if each.said is not None)
    answered = time.monotonic() - began
    document = {
        "order": signed.digest.hex(),
        "level": level.value,
        "drill": signed.order.drill,
        "nodes": len(last.answers) + len(last.awaited),
        "answered": len(seconds),
        "seconds": round(answered, 3),
        "slowestNode": round(seconds[-1], 3) if seconds else None,
        "missing": [f"{each.member}/{each.node}" for each in last.awaited],
    }

    def told() -> None:
        data(f"{len(seconds)} of {document['nodes']} nodes answered in {answered:.3f} s")
        if seconds:
            data(f"at the nodes: median {seconds[len(seconds) // 2]:.3f} s, slowest {seconds[-1]:.3f} s")
        for each in last.awaited:
            data(_missing(each.member, each.node, each.lease_ends))

    show(document, output, told)
    raise typer.Exit(_outcome(last))


def halts_table(halts: list[Halt]) -> None:
    table(
        ("DIGEST", "LEVEL", "WHAT", "BY", "RECEIVED", "STATE", "ANSWERED", "REASON"),
        [
            (
                each.signed.digest.hex()[:12],
                each.signed.order.level.name,
                each.signed.order.words,
                each.signed.order.by.words,
                each.received[: len("2026-01-31T12:00:00")].replace("T", " "),
                each.state,
                f"{sum(not answer.problem for answer in each.answers)}/{len(each.answers) + len(each.awaited)}",
                each.signed.order.reason,
            )
            for each in halts
        ],
    )


class _Sessions:
    """One session with the coordinator, opened when it is needed: signing alone takes no network."""

    def __init__(self, stack: ExitStack, home: Home) -> None:
        self._stack, self.home = stack, home
        self._federation: Federation | None = None

    def federation(self) -> Federation:
        if self._federation is None:
            self._federation = self._stack.enter_context(Federation.connect(self.home.path))
        return self._federation

    def calls(self) -> HaltCalls:
        return HaltCalls(self.federation())


def _ordered(
    place: Home, sessions: _Sessions, job: str, member: str, level: Level, reason: str, *, drill: bool
) -> SignedOrder:
    signer_of(place)
    digest = b""
    if job:
        whole = len(job) == DIGEST_DIGITS and set(job) <= set("0123456789abcdef")
        digest = bytes.fromhex(job) if whole else sessions.federation().job(job).digest
    roll = (place.roll() or sessions.home.roll()) if place.path != sessions.home.path else place.roll()
    if roll is None:
        raise NotFound(f"There is no roll in {place.path}.", hint="Log in, or name a home that has one with --via.")
    if member:
        checked_label(member, "member")
    signed = make_order(place, roll.federation, level, reason, job=digest, member=member, drill=drill)
    check_order(signed, roll, lambda _member, _node: None)
    return signed


def _followed(calls: HaltCalls, signed: SignedOrder, began: float, lease: float, tell: Callable[[str], None]) -> Halt:
    """Shows each answer once; returns when nobody is awaited, or every lease has ended."""
    shown: set[tuple[str, str]] = set()
    last: Halt | None = None
    for last in calls.follow(signed.digest, lease + 2 * MORE_SECONDS):
        for each in last.answers:
            if (each.member, each.node) not in shown:
                shown.add((each.member, each.node))
                passed = time.monotonic() - began
                if each.said is None:
                    say(f"{each.member}/{each.node}: what is said to be its answer does not count: {each.problem}")
                else:
                    words = f"{each.said.jobs} jobs, {each.said.processes} processes ended"
                    tell(
                        f"{each.member}/{each.node} {signed.order.level.name} after {passed:.3f} s "
                        f"({each.said.took_microseconds / 1e6:.3f} s at the node; {words})"
                    )
        if not any(each.lease_ends is not None for each in last.awaited):
            break
    if last is None:
        raise Halted(
            "The coordinator does not tell of the order that it signed for.", hint="Give it to the nodes as a file."
        )
    return last


def _outcome(last: Halt) -> int:
    """7 when a node that has a lease did not answer, or an answer does not count."""
    missing = [each for each in last.awaited if each.lease_ends is not None]
    for each in last.awaited:
        say(_missing(each.member, each.node, each.lease_ends))
    wrong = [each for each in last.answers if each.problem]
    if missing or wrong:
        say(
            f"not everywhere: `concord-node halt --order` takes the order at a node; it is kept in the home, {_name(last)}"
        )
    return HALTED_EXIT_CODE if missing or wrong else 0


def _say_of_whom_nothing_is_told(last: Halt, home: Home) -> None:
    """A coordinator that lies leaves nodes out of its list; the roll is the reader's own."""
    order = last.signed.order
    told = {each.member for each in last.answers} | {each.member for each in last.awaited}
    if order.scope == "federation":
        for entry in home.required_roll().members:
            if entry.id not in told:
                say(f"nothing is told of {entry.id}: it has no node, or the coordinator leaves it out; ask there")


def _is_logged(federation: Federation, signed: SignedOrder) -> bool:
    """Whether the public log holds the order, proved under the log's key. Its receipt promises so by now."""
    document = hashlib.sha256(signed.envelope).digest()
    try:
        source = sources.from_coordinator(federation)
        roll = federation.home.roll()
        key = sources.trusted("", source, federation.home, roll).key
        proof = sources.prove(federation, document, 0)
        proved = verify_inclusion(proof, key, sources.witness_keys(source, roll, key))
        if (proved.entry.kind, proved.entry.document) != ("halt", document):
            raise VerificationFailed("The coordinator proves another entry.")
    except FederationError as error:
        say(f"the public log does not show the order: {error.message}")
        return False
    say(f"entry {proved.index} of the public log")
    return True


def _name(last: Halt) -> str:
    return f"halts/{last.signed.digest.hex()[:12]}….order.json"


def _missing(member: str, node: str, ends: datetime | None) -> str:
    if ends is None:
        return f"{plain(member)}/{plain(node)} is not connected and has no lease: it trains nothing"
    now = datetime.now(UTC)
    word = "ended" if ends <= now else "ends"
    return f"{plain(member)}/{plain(node)} did not answer; its lease {word} by {ends:%H:%M:%S} UTC: then it stops by itself"
