"""A small HTTP server of its own thread for /metrics, /healthz, /readyz and the public log. Read-only; it answers nothing else.

The log is under /log in the paths of C2SP tlog-tiles, so that any client of such logs reads it: what members see, and no document.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from federation.errors import FederationError, InvalidUsage

said = structlog.get_logger()

POLL_SECONDS = 0.1
"""how soon it notices that it is to end"""
LOG: Final = "/log/"


class Log(Protocol):
    """What is served of the public log."""

    def note(self) -> bytes: ...

    def part(self, path: str) -> bytes: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """A peer that hangs up, or speaks no TLS, is worth a line, and no traceback."""
        said.info("web.broken", peer=client_address[0], error=type(sys.exception()).__name__)


def tls_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """Raises InvalidUsage when a file is missing or wrong, or the key can be read by others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if key.stat().st_mode & 0o077:
            raise InvalidUsage(f"The key {key} can be read by others.", hint=f"Run: chmod 600 {key}")
        context.load_cert_chain(certificate, key)
    except OSError as error:
        why = str(error.reason).lower().replace("_", " ") if isinstance(error, ssl.SSLError) else error.strerror
        raise InvalidUsage(
            f"The certificate {certificate} and its key {key} cannot be used: {why}.",
            hint="metrics_certificate and metrics_key name two PEM files that belong together.",
        ) from error
    return context


class WebServer:
    """``address`` "host:port"; port 0 lets the system choose. Raises InvalidUsage when it cannot be listened on."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        log: Log | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = Server((host.strip("[]"), int(port)), _handler(registry, ready, log))
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidUsage(
                f"The metrics address {address} cannot be listened on: {error}.",
                hint="Choose another with metrics: host:port.",
            ) from error
        if tls is not None:  # the handshake is the handler's: a slow peer holds up nobody else
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="web", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        name = host if isinstance(host, str) else host.decode()
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(registry: CollectorRegistry, ready: Callable[[], bool], log: Log | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "concord"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer_metrics()
            elif self.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            elif self.path == "/readyz":
                good = ready()
                self._answer(200 if good else 503, "text/plain", b"ready\n" if good else b"not ready\n")
            elif log is not None and self.path.startswith(LOG):
                self._answer_log(log, self.path.removeprefix(LOG))
            else:
                self._answer(404, "text/plain", b"/metrics, /healthz, /readyz, /log/checkpoint\n")

        def _answer_metrics(self) -> None:
            encode, kind = choose_encoder(self.headers.get("Accept") or "")
            try:
                text = encode(registry)
            except Exception as error:  # a database that cannot be read, say: Prometheus shows that the target is down
                said.exception("metrics.failed", error=type(error).__name__)
                self._answer(500, "text/plain", b"see the log of the service\n")
                return
            self._answer(200, kind, text)

        def _answer_log(self, log: Log, path: str) -> None:
            try:
                if path == "checkpoint":
                    self._answer(200, "text/plain; charset=utf-8", log.note(), "no-cache")
                else:
                    part = log.part(path)
                    self._answer(200, "application/octet-stream", part, "public, max-age=31536000, immutable")
            except FederationError as error:
                self._answer(404, "text/plain", f"{error.message}\n".encode())

        def _answer(self, status: int, kind: str, body: bytes, caching: str = "no-store") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", caching)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Scrapes are not worth a line."""

    return Handler
