"""`concord-coordinator doctor`: is what this coordinator needs there and in order? It changes nothing; one may run meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from coordinator.machine import clock_kept, disk_of, modes_of, versions_here
from coordinator.service import check_owner, open_authority, web_tls
from coordinator.settings import SECRET_LIMIT, Home, Settings, read_whole
from coordinator.store.checkup import Vitals, look
from coordinator.store.place import place_of
from federation.audit.checkpoint import dated, log_key, open_head, origin_of
from federation.errors import FederationError, InvalidUsage, Unavailable
from federation.findings import Finding, certificate, clock, found, private
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll

SECONDS: Final = 5.0
PATIENCE: Final = 30.0
KEYS: Final = ("ca", "release", "log")
SPOOL_WANTED: Final = 16 << 30


def examine(home: Home) -> list[Finding]:
    """In the order in which they matter. Nothing is raised: what cannot be looked at is wrong."""
    try:
        settings = home.load()
    except FederationError as error:
        return [Finding("settings", "wrong", error.message, error.hint or error.remedy)]
    vitals: list[Vitals] = []

    def database() -> str | Finding:
        place = place_of(home, settings)
        held = look(place)
        if held is None:
            return Finding("database", "note", "There is none yet; it is made when a roll is taken.")
        if held.schema != held.newest:
            return Finding(
                "database", "note", f"Its schema is {held.schema}; {held.newest} is made at the next start.",
                "Make a backup before you start this version.",
            )  # fmt: skip
        if held.roll is not None:
            check_owner(Roll.open(held.roll), settings)
        vitals.append(held)
        return f"{held.engine}, {place}, schema {held.schema}: {held.jobs} jobs, {held.entries} entries of the log."

    looked = found("database", lambda: patiently(database))
    stamp = _stamp(vitals[0], settings) if vitals else None
    now = datetime.now(UTC)
    return [
        found("settings", lambda: _exposed(home, settings)),
        found("clock", lambda: clock(clock_kept(), stamp, time.time())),
        found("keys", lambda: private("keys", modes_of(home.key(name) for name in KEYS))),
        found("certificates", lambda: _authority(home, settings, now)),
        found("ports", lambda: _port(home, "address", settings.listen, "members")),
        found("metrics", lambda: _metrics(home, settings)),
        found("disk", lambda: disk_of(home.root, min(settings.max_update_bytes, SPOOL_WANTED))),
        Finding("sandbox", "ok", "A coordinator runs no task, and needs none."),
        Finding("gpu", "ok", "A coordinator needs none."),
        found("versions", versions_here),
        looked,
        found("log", lambda: _log(home, settings, vitals[0] if vitals else None)),
    ]  # fmt: skip


def patiently(look: Callable[[], str | Finding]) -> str | Finding:
    """What ``look`` says; its error is raised here. Raises Unavailable when it takes too long: a server or a disk that hangs would
    hold up the doctor for ever. The thread is left behind and ends with the process."""
    said: queue.SimpleQueue[str | Finding | BaseException] = queue.SimpleQueue()

    def looking() -> None:
        try:
            said.put(look())
        except BaseException as error:
            said.put(error)

    threading.Thread(target=looking, daemon=True).start()
    try:
        answer = said.get(timeout=PATIENCE)
    except queue.Empty:
        raise Unavailable(
            f"It did not answer within {PATIENCE:g} s.", hint="Does the server hang, or the disk that it is on?"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _exposed(home: Home, settings: Settings) -> str:
    web_tls(home, settings)
    return f"{home.settings}, of federation {settings.federation}."


def _authority(home: Home, settings: Settings, now: datetime) -> Finding:
    renew = "Members decide on a coordinator with a new authority: concord propose coordinator."
    said = certificate("certificates", read_whole(home.ca_certificate, SECRET_LIMIT), now, renew)
    if said.state != "wrong":
        open_authority(home, settings)
    return said


def _running(home: Home) -> dict[str, str] | None:
    """What the coordinator that runs on this home has written of itself."""
    try:
        document = json.loads(home.run_file.read_bytes())
        os.kill(int(document["pid"]), 0)
    except (FileNotFoundError, ValueError, KeyError, ProcessLookupError):
        return None
    except PermissionError:  # of another user, and alive
        pass
    return {name: str(value) for name, value in document.items()}


def _port(home: Home, name: str, address: str, whom: str) -> str | Finding:
    """Answered by the coordinator that runs, or free for the one that will."""
    running = _running(home)
    if running is not None:
        host, _, port = running[name].rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - asked, not listened on
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except OSError as error:
            raise Unavailable(
                f"A coordinator runs, and {running[name]} does not answer {whom}: {error.strerror or error}.",
                hint="See its log; restart it.",
            ) from error
        return f"{running[name]} answers; {whom} need this one port, inbound."
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host.strip("[]") else socket.AF_INET
    try:
        with closing(socket.socket(family)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError) as error:
        raise InvalidUsage(
            f"{address} cannot be listened on: {getattr(error, 'strerror', None) or error}.",
            hint="Choose another address, or stop what listens there: ss -ltnp",
        ) from error
    return Finding("ports", "note", f"No coordinator runs here; {address} is free.")


def _metrics(home: Home, settings: Settings) -> str | Finding:
    if not settings.metrics:
        return Finding("metrics", "note", "They are turned off, and with them /healthz and the log for browsers.")
    running = _running(home)
    if running is None:
        said = _port(home, "metrics", settings.metrics, "operators")
        return Finding("metrics", "note", said.says) if isinstance(said, Finding) else said
    where = running["metrics"] if "://" in running["metrics"] else f"//{running['metrics']}"
    return readiness(where, home.root / settings.metrics_certificate if settings.metrics_certificate else None)


def readiness(address: str, served: Path | None) -> str:
    """What /readyz at ``address`` says. ``served``: the certificate file of TLS, and no other is accepted: its names are for those
    who scrape from elsewhere, and are not asked here. Raises Unavailable."""
    where = urlsplit(address)
    host = where.hostname or ""
    connection = http.client.HTTPConnection(host, where.port, timeout=SECONDS)
    if served is not None:
        context = ssl.create_default_context(cafile=str(served))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        connection = http.client.HTTPSConnection(host, where.port, timeout=SECONDS, context=context)
    with closing(connection):
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read(4096)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{where.netloc} does not answer: {error}.", hint="See the coordinator's log.") from error
    if answer.status != http.client.OK:
        raise Unavailable(f"{where.netloc}/readyz says {answer.status}: not ready.", hint="See the coordinator's log.")
    return f"{where.netloc} answers, and is ready."


def _log(home: Home, settings: Settings, held: Vitals | None) -> str | Finding:
    if held is None:
        return Finding("log", "note", "There is no database to look into.")
    if held.head is None:
        return Finding("log", "note", f"{held.entries} entries; no head was signed yet.")
    key = log_key(settings.federation, SigningKey.from_pem(home.read_key("log")).public)
    open_head(held.head, key)
    if held.head_size > held.entries or (held.head_size == held.entries and held.head_root != held.root):
        raise InvalidUsage(
            f"A head over {held.head_size} entries was signed, and the database's {held.entries} are others: it is an older copy.",
            hint="Restore the newest backup. Nodes that saw that head convict the log if it goes on from here.",
        )
    return f"{held.entries} entries; the newest head, over {held.head_size}, is by this key."


def _stamp(held: Vitals, settings: Settings) -> float | None:
    try:
        return None if held.head is None else float(dated(held.head, origin_of(settings.federation)))
    except FederationError:
        return None


def print_findings(home: Path, *, as_json: bool) -> bool:
    """Whether nothing is wrong."""
    findings = examine(Home(home))
    if as_json:
        print(json.dumps([each.as_document() for each in findings], indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for each in findings for line in each.lines()))
    return all(each.state != "wrong" for each in findings)
