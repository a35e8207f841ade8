"""The HTTP address that serves a node's /metrics, /healthz and /readyz to its lab, in a thread of its own."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from federation.errors import InvalidUsage

log = structlog.get_logger()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """A peer that hangs up, or speaks no TLS, is worth a line, and no traceback."""
        log.info("web.broken", peer=client_address[0], error=type(sys.exception()).__name__)


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
            hint="metricsCertificate and metricsKey name two PEM files that belong together.",
        ) from error
    return context


class MetricsServer:
    """``address`` "host:port", port 0 for any. Raises InvalidUsage when it cannot be listened on."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = Server((host.strip("[]"), int(port)), _handler(registry, ready))
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidUsage(
                f"The metrics address {address} cannot be listened on: {error}.",
                hint="Choose another in node.yaml, or leave it empty.",
            ) from error
        if tls is not None:  # the handshake is the handler's: a slow peer holds up nobody else
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
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


def _handler(registry: CollectorRegistry, ready: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "concord"
        sys_version = ""

        def do_GET(self) -> None:
            status, kind, body = 200, "text/plain", b"ok\n"
            if self.path == "/metrics":
                status, kind, body = self._metrics()
            elif self.path == "/readyz":
                status, body = (200, b"ready\n") if ready() else (503, b"not connected\n")
            elif self.path != "/healthz":
                status, body = 404, b"/metrics, /healthz, /readyz\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _metrics(self) -> tuple[int, str, bytes]:
            encode, kind = choose_encoder(self.headers.get("Accept") or "")
            try:
                return 200, kind, encode(registry)
            except Exception as error:  # a journal that cannot be read, say: Prometheus shows that the target is down
                log.exception("metrics.failed", error=type(error).__name__)
                return 500, "text/plain", b"see the log of the node\n"

        def log_message(self, *_arguments: Any) -> None:
            """Scrapes are not worth a line."""

    return Handler
