"""Prometheus metrics of a node, and the HTTP address that serves them with /healthz and /readyz. A node can export nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from federation.errors import InvalidUsage

COUNTED = {
    "contributions": "Masked updates that were made.",
    "rounds": "Certified sums that were applied.",
    "task_failures": "Failures of jobs' own code.",
    "audits": "Sums of which a place was compared with what its members signed, and was right.",
    "refusals": "Messages of the coordinator that were refused.",
    "evidence": "Refused messages that were kept.",
    "consents_granted": "Jobs that this lab consented to.",
    "consents_denied": "Jobs that this lab denied.",
    "log_missing": "Statements of this node that the public log did not hold in time.",
    "log_stops": "Times that the public log's witness stopped this node.",
}


class NodeMetrics:
    def __init__(self, version: str, connected: Callable[[], bool], jobs: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        Gauge("concord_node_build_info", "Version of this node.", ["version"], registry=self.registry).labels(
            version
        ).set(1)
        self._counters = {
            name: Counter(f"concord_node_{name}", text, registry=self.registry) for name, text in COUNTED.items()
        }
        link = Gauge("concord_node_connected", "1 while the stream to the coordinator is open.", registry=self.registry)
        link.set_function(lambda: float(connected()))
        active = Gauge("concord_node_jobs", "Jobs that this node works on.", registry=self.registry)
        active.set_function(lambda: float(jobs()))

    def count(self, name: str) -> None:
        self._counters[name].inc()


class MetricsServer:
    """``address`` "host:port", port 0 for any. Raises InvalidUsage when it cannot be listened on."""

    def __init__(self, address: str, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(registry, ready))
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidUsage(
                f"The metrics address {address} cannot be listened on: {error}.",
                hint="Choose another in node.yaml, or leave it empty.",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host if isinstance(host, str) else host.decode()}:{port}"

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
                encode, kind = choose_encoder(self.headers.get("Accept") or "")
                body = encode(registry)
            elif self.path == "/readyz":
                status, body = (200, b"ready\n") if ready() else (503, b"not connected\n")
            elif self.path != "/healthz":
                status, body = 404, b"/metrics, /healthz, /readyz\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Scrapes are not worth a line."""

    return Handler
