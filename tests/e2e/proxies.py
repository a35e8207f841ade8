"""An HTTP proxy as institutions run them: CONNECT alone (RFC 9110 section 9.3.6), with or without basic credentials."""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

HEAD_LIMIT = 16 << 10
SECONDS = 10.0


@dataclass
class ConnectProxy:
    """Resolves ``hosts`` (host:port as asked for, to a port on loopback) and nothing else. ``with ConnectProxy(...) as proxy``."""

    hosts: dict[str, int]
    credentials: str = ""
    """name:password that it wants; empty: none"""
    asked: list[str] = field(default_factory=list)
    """what was asked for, in order: "coordinator.example:7443 200" """
    listen: str = "127.0.0.1"
    idle: float = float("inf")
    """seconds after which a connection is cut over which nothing went"""
    silences: list[float] = field(default_factory=list)
    """seconds for which a connection was silent before something went over it again"""
    cuts: int = 0
    """connections that were cut for their silence"""

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.listen, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = False

    @property
    def address(self) -> str:
        return f"{self.listen}:{self.port}"

    def passed(self) -> int:
        return sum(line.endswith(" 200") for line in self.asked)

    def cut(self) -> int:
        """Closes every connection that is open through it; how many."""
        with self._lock:
            sockets, self._open = self._open, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(sockets) // 2

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(SECONDS)
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(4096)
                if not part or len(head) > HEAD_LIMIT:
                    return
                head += part
            answer, port = self._judge(head)
            self.asked.append(f"{head.split()[1].decode()} {answer.split()[0]}")
            client.sendall(f"HTTP/1.1 {answer}\r\n\r\n".encode())
            if port:
                with socket.create_connection(("127.0.0.1", port), SECONDS) as upstream:
                    self._carry(client, upstream)

    def _judge(self, head: bytes) -> tuple[str, int]:
        request, *lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, target, _version = request.split()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method != "CONNECT":
            return "405 Method Not Allowed", 0
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and headers.get("proxy-authorization") != wanted:
            return '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="out"', 0
        if target not in self.hosts:
            return "403 Forbidden", 0
        return "200 Connection established", self.hosts[target]

    def _carry(self, client: socket.socket, upstream: socket.socket) -> None:
        """Until either side ends, or nothing went either way for ``idle`` seconds."""
        ways = {client: upstream, upstream: client}
        with self._lock:
            self._open |= set(ways)
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            for each in ways:
                each.settimeout(None)
                selector.register(each, selectors.EVENT_READ)
            last, ended = time.monotonic(), False
            while not ended:
                ready = selector.select(None if self.idle == float("inf") else self.idle)
                self.cuts += not ready
                ended = not ready
                self.silences.append(time.monotonic() - last)
                last = time.monotonic()
                for key, _ in ready:
                    source = next(each for each in ways if each is key.fileobj)
                    data = source.recv(65_536)
                    ways[source].sendall(data)
                    ended = ended or not data
        with self._lock:
            self._open -= set(ways)
        for each in ways:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
