"""`concord-node doctor`: is what this node needs there and in order? It changes nothing, and may be asked while the node runs.

``--before-join`` tests the way to the coordinator with nothing but the ticket, which stays unused, and writes the letter to the
people who run the firewall.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from federation.audit.checkpoint import dated, origin_of
from federation.errors import FederationError, InvalidUsage, NotFound, Unavailable
from federation.findings import Finding, any_wrong, certificate, clock, found, letter, private
from federation.identity.roll import Roll
from federation.route import route_to
from node_agent.catalogue.places import check_places
from node_agent.consent.packs import read_policy
from node_agent.enrolment import check_credential, read_ticket
from node_agent.link.channel import Credentials
from node_agent.link.probe import reach
from node_agent.machine import clock_kept, disk_of, modes_of, versions_here
from node_agent.membership import ROLL_LIMIT
from node_agent.runner.devices import detect_gpus, shut
from node_agent.runner.nvml import DRIVER
from node_agent.runner.sandbox import detect_sandbox
from node_agent.service import metrics_tls
from node_agent.settings import Home, NodeSettings, refuse_unknown_variables
from node_agent.witness.notebook import Notebook

SECONDS: Final = 5.0
WANTED: Final = 4 << 30
"""for a model, its update and its states"""


def examine(home: Home) -> list[Finding]:
    """Nothing is raised: what cannot be looked at is wrong."""
    try:
        settings = home.settings()
    except FederationError as error:
        return [Finding("settings", "wrong", error.message, error.hint or error.remedy)]
    stamps: list[float] = []
    coordinator = found("coordinator", lambda: _coordinator(home, settings, stamps))
    joined = "Enter the federation: concord-node join, with a ticket from the coordinator's operator."
    keys = [home.identity_key, home.transport_key]
    if home.catalogue_key.exists():
        keys.append(home.catalogue_key)
    return [
        found("settings", lambda: _settings(home, settings)),
        found("policy", lambda: _policy(home)),
        found("data", lambda: _data(home, settings)),
        found("clock", lambda: clock(clock_kept(), stamps[0] if stamps else None, time.time())),
        found("keys", lambda: private("keys", modes_of(keys))),
        found(
            "certificates",
            lambda: certificate(
                "certificates", home.read(home.transport_certificate), datetime.now(UTC),
                f"It is renewed while the node runs; if it has ended: {joined}",
            ),
        ),
        found("credential", lambda: _credential(home, settings)),
        found("ports", lambda: _port(home, settings)),
        found("route", lambda: route_to(_address(settings), os.environ).sentence + "."),
        coordinator,
        found("disk", lambda: disk_of(Path(settings.scratch) if settings.scratch else home.root, WANTED)),
        found("sandbox", lambda: _sandbox(home)),
        found("gpu", gpus_here),
        found("versions", versions_here),
        found("database", lambda: _journal(home)),
        found("log", lambda: _log(home)),
    ]  # fmt: skip


def examine_route(home: Home, ticket_file: Path) -> tuple[list[Finding], str]:
    """Before the node has joined: the findings, and the letter. Raises what a ticket or a proxy that cannot work raises."""
    settings, ticket = home.settings(), read_ticket(ticket_file)
    route = route_to(ticket.address, os.environ)
    credentials = Credentials(ticket.federation, ticket.ca_pem, ticket.certificate_pem, ticket.key_pem)

    def coordinator() -> str:
        reach(route, credentials)
        return f"{route.place} answers, and is the coordinator of {ticket.federation}; the ticket is still unused."

    findings = [
        Finding("settings", "ok", f"Node {settings.node} of {settings.member}, in {settings.federation}."),
        found("clock", lambda: clock(clock_kept(), None, time.time())),
        Finding("route", "ok", f"{route.sentence}."),
        found("coordinator", coordinator),
    ]
    return findings, letter(ticket.federation, route)


def _settings(home: Home, settings: NodeSettings) -> str:
    metrics_tls(home, settings)
    refuse_unknown_variables(os.environ)
    return f"{home.settings_file}: node {settings.node} of {settings.member}, in {settings.federation}."


def _policy(home: Home) -> str | Finding:
    read_policy(home, str(home.policy_file))
    return f"{home.policy_file} is read; `concord-node policy explain` says what it means."


def _data(home: Home, settings: NodeSettings) -> str | Finding:
    check_places(settings.data_sets, home.root)
    for name, held in settings.data_sets.items():
        path = Path(held.path)
        if not os.access(path, os.R_OK):
            raise InvalidUsage(
                f"{name}: {path} {'cannot be read' if path.exists() else 'is not there'}.",
                hint="Mount it, or give this user leave to read it; or change node.yaml.",
            )
    if not settings.data_sets:
        return Finding("data", "note", "No data set is declared.", "concord-node data add")
    return f"{len(settings.data_sets)} data sets can be read: {', '.join(sorted(settings.data_sets))}."


def _credential(home: Home, settings: NodeSettings) -> str:
    roll = Roll.open(home.read(home.roll, ROLL_LIMIT))
    held = check_credential(home, home.read(home.credential), roll, settings)
    return f"Of {held.member}'s officer, good until {held.not_after:%Y-%m-%d} UTC; the roll is version {roll.version}."


def _address(settings: NodeSettings) -> str:
    if not settings.address:
        raise NotFound(
            "The node has not joined a federation.",
            hint="Test the way first: concord-node doctor --before-join --ticket TICKET; then concord-node join.",
        )
    return settings.address


def _coordinator(home: Home, settings: NodeSettings, stamps: list[float]) -> str:
    route = route_to(_address(settings), os.environ)
    pems = (home.read(path) for path in (home.ca, home.transport_certificate, home.transport_key))
    reply = reach(route, Credentials(settings.federation, *pems))
    if reply is None:
        return f"{route.place} answers, and does not tell this node of its log."
    stamps.append(float(dated(reply.note, origin_of(settings.federation))))
    return f"{route.place} answers."


def _port(home: Home, settings: NodeSettings) -> str | Finding:
    """A node listens on nothing but its metrics."""
    if not settings.metrics:
        return "Nothing listens here; connections go out alone, to one host and port."
    try:
        document = json.loads(home.run_file.read_bytes())
        os.kill(int(document["pid"]), 0)
    except (FileNotFoundError, ValueError, KeyError, ProcessLookupError):
        return Finding("ports", "note", "The node does not run, or has not reached the coordinator yet.")
    except PermissionError:
        pass  # of another user, and alive
    host, _, port = str(document["metrics"]).rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The node runs, and its metrics at {document['metrics']} do not answer: {error}.", hint="See its log."
        ) from error
    return f"The node runs; its metrics answer at {document['metrics']}; nothing else comes in."


def _sandbox(home: Home) -> str | Finding:
    report = detect_sandbox()
    if report.kind != "none":
        return f"{report.kind} works here."
    required = read_policy(home, str(home.policy_file)).sandbox_required
    return Finding("sandbox", "wrong" if required else "note", report.reason, report.hint)


def gpus_here() -> str | Finding:
    gpus = detect_gpus()
    if not gpus and DRIVER.exists():
        return Finding(
            "gpu",
            "note",
            "There is NVIDIA's driver, and no card can be lent: jobs train on the processors.",
            "Look at nvidia-smi: the driver may be newer than its library, a card may be gone, or cut (MIG) and have no slices.",
        )
    if not gpus:
        return Finding("gpu", "note", "None is seen; jobs train on the processors.")
    seen = "; ".join(f"{each.model}, {each.memory_bytes / (1 << 30):.0f} GiB ({each.kind})" for each in gpus)
    if files := shut(gpus):
        return Finding(
            "gpu",
            "wrong",
            f"{seen}; but jobs cannot use them: {', '.join(files)} cannot be opened, or is missing.",
            "Let the agent's user open the device files; nvidia-modprobe -u -c=0 makes NVIDIA's.",
        )
    return f"{seen}."


def _journal(home: Home) -> str | Finding:
    if not home.journal.exists():
        return Finding("database", "note", "There is no journal yet; it is made at the first start.")
    try:
        with closing(sqlite3.connect(f"{home.journal.absolute().as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as held:
            said = held.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise InvalidUsage(f"{home.journal} cannot be read: {error}.", hint="Restore nothing: join anew.") from error
    if said != "ok":
        raise InvalidUsage(
            f"{home.journal} is damaged: {said}.",
            hint="Move it away; the node comes into running jobs anew, at their next epoch.",
        )
    return f"{home.journal} is in one piece, {home.journal.stat().st_size / (1 << 20):.1f} MiB."


def _log(home: Home) -> str | Finding:
    if not (home.witness / "head").exists():
        return Finding("log", "note", "This node has seen no head of the public log yet.")
    book = Notebook(home.witness)
    if book.state.stop is not None:
        return Finding(
            "log", "wrong", f"This node has stopped: {book.state.stop.sentence}",
            "docs/how-to/audit.md says what to do; `concord-node witness show` says more.",
        )  # fmt: skip
    late = [each.what for each in book.state.expected if each.late]
    if late:
        return Finding(
            "log", "wrong", f"What this node signed is not in the log in time: {', '.join(late)}.", "Ask the operator."
        )
    size = 0 if book.head is None else book.head.size
    return f"This node has checked it up to entry {size}, last {_ago(book.checked)}."


def _ago(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago" if seconds < 7200 else "hours ago"


def print_findings(findings: Sequence[Finding], *, as_json: bool, note: str = "") -> bool:
    """Whether nothing is wrong. ``note``: after them; in JSON, as ``letter``."""
    listed = [each.as_document() for each in findings]
    if as_json:
        print(json.dumps({"findings": listed, "letter": note} if note else listed, indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for each in findings for line in each.lines()))
        if note:
            print(f"\n{note}")
    return not any_wrong(findings)
