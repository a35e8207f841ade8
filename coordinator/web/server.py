"""A small HTTP server of its own thread for /metrics, /healthz, /readyz and the public log. Read-only; it answers nothing else.

The log is under /log in the paths of C2SP tlog-tiles, so that any client of such logs reads it: what members see, and no document.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from federation.errors import FederationError, InvalidUsage

POLL_SECONDS = 0.1
"""how soon it notices that it is to end"""
LOG: Final = "/log/"


class Log(Protocol):
    """What is served of the public log."""

    def note(self) -> bytes: ...

    def part(self, path: str) -> bytes: ...


class WebServer:
    """``address`` "host:port"; port 0 lets the system choose. Raises InvalidUsage when it cannot be listened on."""

    def __init__(
        self, address: str, registry: CollectorRegistry, ready: Callable[[], bool], log: Log | None = None
    ) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(registry, ready, log))
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidUsage(
                f"The metrics address {address} cannot be listened on: {error}.",
                hint="Choose another with metrics: host:port.",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="web", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host if isinstance(host, str) else host.decode()}:{port}"

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
                encode, kind = choose_encoder(self.headers.get("Accept") or "")
                self._answer(200, kind, encode(registry))
            elif self.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            elif self.path == "/readyz":
                good = ready()
                self._answer(200 if good else 503, "text/plain", b"ready\n" if good else b"not ready\n")
            elif log is not None and self.path.startswith(LOG):
                self._answer_log(log, self.path.removeprefix(LOG))
            else:
                self._answer(404, "text/plain", b"/metrics, /healthz, /readyz, /log/checkpoint\n")

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
