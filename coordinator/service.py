"""One running coordinator: its rooms put together, one gRPC port with mutual TLS, one HTTP address for operators."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import NoReturn

# What gRPC would print stands in the error of each call: a service's log holds events, one a line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import structlog
from cryptography import x509
from prometheus_client import CollectorRegistry

from coordinator.api.audit import AuditLogService
from coordinator.api.calls import Parsing
from coordinator.api.catalogues import CatalogueService
from coordinator.api.governance import add_governance
from coordinator.api.halts import HaltService, add_halts
from coordinator.api.node_link import NodeLinkService
from coordinator.api.releases import add_releases
from coordinator.api.services import BlobService, EnrolmentService, JobService, add_services
from coordinator.api.sessions import Sessions
from coordinator.api.studies import StudyService, add_studies
from coordinator.api.timing import Timing
from coordinator.audit.book import LogBook
from coordinator.audit.keys import log_signer
from coordinator.catalogue.shelf import Shelf
from coordinator.halts.desk import HaltDesk
from coordinator.jobs.docket import Docket
from coordinator.jobs.views import JobViews
from coordinator.registry.assembly import Assembly
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry
from coordinator.releases.desk import ReleaseDesk
from coordinator.releases.publisher import Publisher
from coordinator.settings import SECRET_LIMIT, Home, Settings, read_whole, write_private
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database
from coordinator.store.place import place_of
from coordinator.store.spool import Spool
from coordinator.studies.desk import StudyDesk
from coordinator.web.metrics import Metrics
from coordinator.web.readiness import Readiness
from coordinator.web.server import WebServer, tls_of
from coordinator.web.survey import Sources, Survey, Term
from federation.audit.checkpoint import VerifierKey
from federation.audit.named_key import log_key_of
from federation.errors import InvalidUsage, NotFound, Unavailable, exit_code
from federation.exposure import check_exposure
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.product import product_version

log = structlog.get_logger()

MESSAGE_LIMIT = 4 << 20
GRACE_SECONDS = 1.0
SERVER_LIFETIME = timedelta(days=90)
"""of the certificate that the coordinator makes for itself at each start"""
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
    # A certificate is checked when a connection opens: none outlives its certificate for long. Nodes come back by themselves.
    ("grpc.max_connection_age_ms", 6 * 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
]


def open_authority(home: Home, settings: Settings) -> Authority:
    """Raises InvalidUsage when it is missing, damaged, or of another federation than the settings say."""
    try:
        certificate = read_whole(home.ca_certificate, SECRET_LIMIT)
    except OSError as error:
        raise InvalidUsage(
            f"{home.ca_certificate} cannot be read: {error.strerror}.", hint="Restore it from a backup."
        ) from error
    return Authority.load(settings.federation, home.read_key("ca"), certificate)


def open_registry(home: Home, settings: Settings, database: Database) -> Registry:
    """Raises InvalidUsage when the database holds another federation's state than this home is of."""
    authority = open_authority(home, settings)
    registry = Registry(database, authority, timedelta(hours=settings.certificate_hours), time.time)
    with contextlib.suppress(NotFound):  # not founded yet
        check_owner(registry.roll(), settings)
    return registry


def check_owner(held: Roll, settings: Settings) -> None:
    """``held``: the roll in the database. Raises InvalidUsage when it is another federation's."""
    if held.federation != settings.federation:
        raise InvalidUsage(
            f"The database holds the state of the federation {held.federation}, and this home is of {settings.federation}.",
            hint="Name this federation's own database in coordinator.yaml, or start the home that the database belongs to.",
        )


def _named_log_key(registry: Registry) -> VerifierKey | None:
    """By the members' charter; None before the founding, too."""
    try:
        return log_key_of(registry.roll())
    except NotFound:
        return None


async def serve(home: Home, settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Raises InvalidUsage when an address cannot be listened on."""
    tls = check_settings(home, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    database = Database(place_of(home, settings), sole=True, lost=_end)
    registry = open_registry(home, settings, database)
    blobs, spool, sessions = Blobs(home.blobs), Spool(home.spool, settings.max_update_bytes), Sessions()
    key = SigningKey.from_pem(home.read_key("release"))
    metrics = Metrics(CollectorRegistry(), product_version())
    named = _named_log_key(registry)
    signer = log_signer(home, settings.federation, database, named)
    if named is None:
        log.warning(
            "log.key-unnamed", hint="The members name the log's key: concord propose coordinator --log-key log.key.pub"
        )
    halts = HaltDesk(database, registry, signer, time.time)
    book = LogBook(database, settings.federation, signer, registry.roll, time.time, settings.log_head_seconds)
    releases = ReleaseDesk(database, registry, Publisher(database, blobs, key, time.time, book.excerpt))
    docket = Docket(database, blobs, spool, sessions, registry, releases, metrics, time.time, book, halts)
    halts.changed, releases.decided = docket.halted, docket.rounds_over
    halts.carried_out = metrics.halt_carried_out
    studies = StudyDesk(database, sessions, registry, blobs, time.time, halts)
    docket.submissions.check_run = studies.check_run
    assembly = Assembly(registry, [docket.amended, halts.amended, book.amended], [releases.heard])
    shelf = Shelf(database, registry, time.time)
    ready = Readiness(loop, database.answers)
    server = grpc.aio.server(options=OPTIONS, interceptors=(Parsing(), Timing(metrics)))
    link = NodeLinkService(
        registry, sessions, docket, spool, shelf, assembly, metrics.stream_opened, metrics.update_resumed, studies
    )
    server.add_generic_rpc_handlers((link.handler(),))
    add_studies(server, StudyService(registry, studies))
    CatalogueService(registry, shelf).add_to(server)
    jobs = JobService(registry, database, docket, sessions, releases, JobViews(database, registry))
    add_halts(server, HaltService(registry, halts))
    add_services(
        server,
        EnrolmentService(registry, str(book.key)),
        BlobService(registry, blobs, docket, releases.check_blob),
        jobs,
    )
    add_governance(server, assembly)
    AuditLogService(registry, book).add_to(server)
    add_releases(server, releases, docket)
    address, good = _listen(server, registry.authority, settings.listen)
    terms = {"server": good, "authority": Term.of(registry.authority.certificate), **web_term(home, settings)}
    sources = Sources(database, registry, sessions, docket, halts, book, spool, terms, time.time)
    Survey(metrics, sources).register(metrics.registry)
    web = WebServer(settings.metrics, metrics.registry, ready, book, tls) if settings.metrics else None
    releases.resume()
    docket.resume()
    await server.start()
    document = {"pid": os.getpid(), "address": address, "metrics": web.address if web else ""}
    write_private(home.run_file, json.dumps(document).encode(), replace=True)
    ready.serving = True
    announcing = asyncio.ensure_future(book.announce(sessions))
    log.info("coordinator.ready", **document)
    await stop.wait()
    ready.serving = False
    announcing.cancel()
    log.info("coordinator.stopping")
    home.run_file.unlink(missing_ok=True)
    await docket.stop()
    await server.stop(GRACE_SECONDS)
    if web is not None:
        web.close()
    database.close()


def check_settings(home: Home, settings: Settings) -> ssl.SSLContext | None:
    """What can be wrong with them, before anything is made. Returns as ``web_tls``; raises InvalidUsage."""
    place_of(home, settings)
    tls = web_tls(home, settings)
    open_authority(home, settings)
    return tls


def web_tls(home: Home, settings: Settings) -> ssl.SSLContext | None:
    """Raises InvalidUsage for settings that would show this coordinator's figures to the public."""
    named = [bool(name) for name in (settings.metrics_certificate, settings.metrics_key)]
    if any(named) and not all(named):
        raise InvalidUsage(
            "Of metrics_certificate and metrics_key only one is set.", hint="Set both for TLS, or neither."
        )
    check_exposure(
        settings.metrics,
        tls=all(named),
        setting="metrics:",
        hint="Set metrics_certificate and metrics_key, or listen on 127.0.0.1 or a private address.",
    )
    return tls_of(home.root / settings.metrics_certificate, home.root / settings.metrics_key) if all(named) else None


def web_term(home: Home, settings: Settings) -> dict[str, Term]:
    """Of the certificate under which figures are served, as it is read at the start; empty without one."""
    if not settings.metrics or not settings.metrics_certificate:
        return {}
    served = (home.root / settings.metrics_certificate).read_bytes()
    return {"metrics": Term.of(x509.load_pem_x509_certificate(served))}


def _end(why: Unavailable) -> NoReturn:
    """At once, as kill -9 would: what is in memory may be ahead of the database, and another coordinator may hold its lock."""
    log.critical("database.lost", why=why.message, hint=why.hint)
    sys.stderr.flush()
    os._exit(exit_code(why))


def _listen(server: grpc.aio.Server, authority: Authority, listen: str) -> tuple[str, Term]:
    """The address, and for how long the certificate is good that is shown there."""
    host, _, port = listen.rpartition(":")
    now = datetime.now(UTC)
    certificate, key = authority.server(host.strip("[]"), now, SERVER_LIFETIME)
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority.certificate_pem, require_client_auth=True)
    try:
        bound = server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise InvalidUsage(
            f"{listen} cannot be listened on.", hint="Is another coordinator running? Choose another address."
        ) from error
    if bound == 0 or (port != "0" and bound != int(port)):
        raise InvalidUsage(
            f"{listen} cannot be listened on.", hint="Is another coordinator running? Choose another address."
        )
    return f"{host}:{bound}", Term(now, now + SERVER_LIFETIME)
