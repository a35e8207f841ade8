"""The node's process: one home, one lock, one journal, one agent; its log, its metrics, its socket for commands."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog

from federation.errors import InvalidUsage
from federation.exposure import check_exposure
from federation.identity.fields import moment_text
from federation.log_events import speak
from node_agent.agent import NodeAgent
from node_agent.catalogue.places import check_places
from node_agent.consent.deciding import handlers_of
from node_agent.control import Control
from node_agent.rounds.workshop import check_workshop
from node_agent.settings import Home, NodeSettings, refuse_unknown_variables
from node_agent.store.files import write_whole
from node_agent.store.journal import Journal
from node_agent.telemetry.server import MetricsServer, tls_of

log = structlog.get_logger()


def serve(home: Home) -> None:
    """Runs the node until SIGTERM or SIGINT. Raises InvalidUsage, NotFound or InvalidIdentity when it cannot start."""
    settings = home.settings()
    if not settings.address:
        raise InvalidUsage("This node has not joined its federation yet.", hint="Run concord-node join with a ticket.")
    refuse_unknown_variables(os.environ)
    for path in (home.identity_key, home.transport_key, home.catalogue_key):
        if path.exists() and path.stat().st_mode & 0o077:
            raise InvalidUsage(f"The key {path} can be read by others.", hint=f"Run: chmod 600 {path}")
    check_places(settings.data_sets, home.root)
    check_workshop(settings, home.root)
    tls = metrics_tls(home, settings)
    speak({"member": settings.member, "node": settings.node}, sys.stderr)
    with locked(home), Journal(home.journal, now=moment_text(datetime.now(UTC))) as journal:
        home.run_file.unlink(missing_ok=True)  # of one that was killed: whoever asks must not take us for connected
        _say_restored(journal)
        asyncio.run(_serve(home, settings, journal, tls))


def _say_restored(journal: Journal) -> None:
    """At each start: who runs this node must know that it has forgotten what it said."""
    if journal.restored:
        log.error(
            "journal.restored",
            found=journal.restored,
            why=journal.why_restored,
            detail="This journal was put back from a copy, or moved. What it remembered of running jobs is void and set aside.",
            hint="Nothing to do for running jobs: the lab is asked anew, and takes part from their next epoch on. Do not put "
            "journals back; what left since the copy was made is not in it.",
        )


async def _serve(home: Home, settings: NodeSettings, journal: Journal, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agent = NodeAgent(home, settings, journal)
    server = (
        MetricsServer(settings.metrics, agent.metrics.registry, agent.link.connected.is_set, tls)
        if settings.metrics
        else None
    )
    control = Control(home.control, handlers_of(agent))
    await control.start()
    running = loop.create_task(agent.run(stop))
    waiting = loop.create_task(_say_ready(home, agent, server))
    try:
        await running
    finally:
        waiting.cancel()
        await control.close()
        home.run_file.unlink(missing_ok=True)
        if server is not None:
            server.close()


def metrics_tls(home: Home, settings: NodeSettings) -> ssl.SSLContext | None:
    """Raises InvalidUsage for settings that would show this lab's figures to the public."""
    named = [name is not None for name in (settings.metrics_certificate, settings.metrics_key)]
    if any(named) and not all(named):
        raise InvalidUsage(
            "Of metricsCertificate and metricsKey only one is set.", hint="Set both for TLS, or neither."
        )
    check_exposure(
        settings.metrics,
        tls=all(named),
        setting="metrics:",
        hint="Set metricsCertificate and metricsKey, or listen on 127.0.0.1 or a private address; empty exports nothing.",
    )
    if settings.metrics_certificate is None or settings.metrics_key is None:
        return None
    return tls_of(home.root / settings.metrics_certificate, home.root / settings.metrics_key)


async def _say_ready(home: Home, agent: NodeAgent, server: MetricsServer | None) -> None:
    """run.json appears when the coordinator has answered."""
    await agent.link.connected.wait()
    document = {"pid": os.getpid(), "address": agent.settings.address, "metrics": server.address if server else ""}
    write_whole(home.run_file, json.dumps(document).encode())


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InvalidUsage(
            f"Another node runs on {home.root}.", hint="Stop it first; one home runs one node."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)  # for `concord-node halt`, should this process hang
    try:
        yield
    finally:
        os.close(descriptor)
