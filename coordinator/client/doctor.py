"""`concord doctor`: is what a research lead or an officer needs there and in order? It changes nothing in the home.

It may say what this home would say anyway: which way it goes, and which roll it holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from coordinator.client.audit_source import from_coordinator, trusted
from coordinator.client.channel import error_of, open_channel, said_by_coordinator
from coordinator.client.enrolment import check_home, read_ticket
from coordinator.client.home import Home
from coordinator.client.sdk import Federation
from coordinator.client.terminal import as_json as json_of
from coordinator.client.terminal import data, plain
from coordinator.machine import clock_kept, disk_of, modes_of, versions_here
from federation.errors import FederationError, NotFound
from federation.findings import Finding, certificate, clock, found, letter, private
from federation.route import route_to
from federation.v1 import audit_pb2, audit_pb2_grpc

HEAD_LIMIT: Final = 64 << 10
ROUTE_SECONDS: Final = 15.0
RELEASE_WANTED: Final = 1 << 30


def examine(home: Home) -> list[Finding]:
    """Nothing is raised: what cannot be looked at is wrong."""
    if not home.path.is_dir():
        return [
            Finding(
                "home", "wrong", f"{home.path} is not there.", "Make one: concord lead init, or name it with --home."
            )
        ]
    stamps: list[float] = []
    owner = found("home", lambda: _whose(home))
    with _connected(home) as session:
        findings = [
            found("coordinator", session(_coordinator)),
            found("log", session(lambda federation: _log(federation, home, stamps))),
        ]
    return [
        owner,
        found("clock", lambda: clock(clock_kept(), stamps[0] if stamps else None, time.time())),
        found("keys", lambda: private("keys", modes_of(_keys(home)))),
        found(
            "certificates",
            lambda: certificate(
                "certificates", _read(home.path / "transport.pem"), datetime.now(UTC),
                f"concord login --home {home.path} --ticket TICKET, with a new ticket from the operator.",
            ),
        ),
        Finding("ports", "ok", "Nothing listens here; one connection goes out."),
        found("route", lambda: route_to(home.endpoint().address, os.environ).sentence + "."),
        *findings,
        found("disk", lambda: disk_of(home.path, RELEASE_WANTED)),
        Finding("sandbox", "ok", "A lead runs no task here, and needs none."),
        Finding("gpu", "ok", "A lead needs none."),
        found("versions", versions_here),
        Finding("database", "ok", "A lead has none."),
    ]  # fmt: skip


def examine_route(home: Home, ticket_file: Path) -> tuple[list[Finding], str]:
    """Before the first login: the findings, and the letter to the people who run the firewall. The ticket stays unused, and the
    home need not be there. Raises what a ticket or a proxy that cannot work raises."""
    ticket = read_ticket(ticket_file, datetime.now(UTC))
    check_home(home, ticket)
    federation, route = ticket.endpoint.federation, route_to(ticket.endpoint.address, os.environ)

    def coordinator() -> str:
        channel, way = open_channel(ticket.endpoint, os.environ)
        with closing(channel):
            try:
                audit_pb2_grpc.AuditLogStub(channel).Head(audit_pb2.HeadQuery(), timeout=ROUTE_SECONDS)
            except grpc.RpcError as error:
                # A ticket opens one door alone: to be refused at another one is to have reached the coordinator.
                if not said_by_coordinator(error):
                    raise error_of(error, way) from None
        return f"{route.place} answers, and is the coordinator of {federation}; the ticket is still unused."

    who = ticket.principal
    findings = [
        Finding("home", "ok", f"{home.path}, for the {who.kind} {who.name} in {federation}."),
        found("clock", lambda: clock(clock_kept(), None, time.time())),
        Finding("route", "ok", f"{route.sentence}."),
        found("coordinator", coordinator),
    ]
    return findings, letter(federation, route)


class _connected:
    """One session for several looks; a look without one is wrong for the reason for which there is none."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._session: Federation | None = None
        self._problem: FederationError | None = None

    def __enter__(self) -> Callable[[Callable[[Federation], str | Finding]], Callable[[], str | Finding]]:
        try:
            self._session = Federation(self._home, self._home.endpoint())  # and not connect: that renews certificates
        except FederationError as error:
            self._problem = error
        return self._over

    def _over(self, look: Callable[[Federation], str | Finding]) -> Callable[[], str | Finding]:
        def looking() -> str | Finding:
            if self._session is None:
                raise self._problem or NotFound("There is no connection.")
            return look(self._session)

        return looking

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()


def _whose(home: Home) -> str:
    profile, roll = home.owner(), home.roll()
    who = f"{profile.kind} {profile.id}" if profile is not None else "an operator or a reader"
    held = f"; the roll of {roll.federation}, version {roll.version}" if roll is not None else "; no roll yet"
    return f"{home.path}, of {who}{held}."


def _keys(home: Home) -> list[Path]:
    """Those that every such home has, and those that this one has beside."""
    wanted = [home.transport_key_path]
    return wanted + [
        path for path in (home.identity_key_path, home.next_key_path, home.sealing_key_path) if path.exists()
    ]


def _coordinator(federation: Federation) -> str:
    state = federation.describe()
    active = sum(node.connected for node in state.nodes)
    return (
        f"{federation.route.place} answers as {state.federation}; {active} of {len(state.nodes)} nodes are connected."
    )


def _log(federation: Federation, home: Home, stamps: list[float]) -> str:
    source = from_coordinator(federation)
    trust = trusted("", source, home, home.roll())
    note = source.fetch("checkpoint", HEAD_LIMIT)
    head = trust.open_older(note)
    stamps.append(float(head.time))
    return f"{head.size} entries, under {trust.key}, {trust.whence}; `concord audit verify` reads them."


def _read(path: Path) -> bytes:
    if not path.exists():
        raise NotFound(
            f"{path} is not there: this home is not logged in.", hint="concord login, with a ticket from the operator."
        )
    return path.read_bytes()


def show(findings: list[Finding], *, as_json: bool, note: str = "") -> None:
    """``note``: after them; in JSON, as ``letter``."""
    if as_json:
        listed = [each.as_document() for each in findings]
        data(json_of({"findings": listed, "letter": note} if note else listed))
        return
    for each in findings:
        for line in each.lines():
            data(plain(line))
    if note:
        data("")
        for line in note.splitlines():
            data(plain(line))
