"""Proxies as they should not be: `doctor --before-join` of node and lead says in a sentence what is in the way, and ends."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.client import doctor as leads
from coordinator.client.home import Home as LeadHome
from coordinator.registry.authority import Authority
from federation.findings import Finding
from federation.identity.transport import Principal, TransportKey
from node_agent import doctor as nodes
from node_agent.link import probe
from node_agent.settings import Home, NodeSettings

ADDRESS = "coordinator.outside.test:7443"
NOW = datetime.datetime.now(datetime.UTC)
Way = Callable[[socket.socket], None]


@contextlib.contextmanager
def proxy(serve: Way) -> Iterator[str]:
    """``serve`` has each connection, once its CONNECT has been read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def each(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                client.settimeout(20)
                while b"\r\n\r\n" not in client.recv(65_536):
                    pass
                serve(client)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=each, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://lab:hunter2@127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def answers(status: str) -> Way:
    return lambda client: client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def intercepts(client: socket.socket) -> None:
    """A proxy that opens the TLS inside, with a certificate of its institution for the right name."""
    certificate, key = Authority.create("health", NOW).server("coordinator.health", NOW, datetime.timedelta(days=1))
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    with _files(certificate, key) as (pem, private):
        context.load_cert_chain(pem, private)
    with contextlib.suppress(ssl.SSLError):
        context.wrap_socket(client, server_side=True).recv(1)


@contextlib.contextmanager
def _files(certificate: bytes, key: bytes) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "pem"), Path(folder, "key")
        paths[0].write_bytes(certificate)
        paths[1].write_bytes(key)
        yield paths


def plain(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n<html>Please accept our terms</html>")


WAYS: dict[str, tuple[Way, str]] = {
    "closes at once": (lambda client: client.close(), "closed the connection"),
    "407": (answers('407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"'), "answers HTTP 407"),
    "503": (answers("503 Service Unavailable"), "answers HTTP 503"),
    "redirects": (answers("302 Found\r\nLocation: http://portal/"), "answers HTTP 302"),
    "opens the TLS": (intercepts, "does not show a"),
    "a portal": (plain, "does not speak TLS"),
    "never answers": (lambda client: client.close() if client.recv(1) else None, ""),
}


def ticket(folder: Path, subject: dict[str, str], principal: str) -> Path:
    authority, key = Authority.create("health", NOW), TransportKey.generate()
    document = {
        "version": 1, "ticketId": "t1", "token": "x" * 43, "subject": subject, "federation": "health", "address": ADDRESS,
        "caPem": authority.certificate_pem.decode(), "keyPem": key.to_pem().decode(),
        "certificatePem": authority.issue_for(
            key.private.public_key(), Principal("ticket", name="t1"), NOW, datetime.timedelta(days=1)
        ).decode(),
        "expires": (NOW + datetime.timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    path = folder / f"{principal}.json"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


def asked(side: str, folder: Path) -> tuple[list[Finding], str]:
    if side == "lead":
        return leads.examine_route(
            LeadHome.at(folder / "lead"), ticket(folder, {"kind": "lead", "lead": "lead"}, "lead")
        )
    home = Home(folder / "node")
    home.root.mkdir()
    home.save(NodeSettings(member="fr", node="fr-1", federation="health"))
    return nodes.examine_route(home, ticket(folder, {"kind": "node", "member": "fr", "node": "fr-1"}, "node"))


@pytest.mark.parametrize("side", ["lead", "node"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_in_the_way_is_said(side: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 1.0)
    monkeypatch.setattr(leads, "ROUTE_SECONDS", 1.0)
    serve, words = WAYS[way]
    with proxy(serve) as url:
        monkeypatch.setenv("https_proxy", url)
        findings, letter = asked(side, tmp_path)
    (found,) = [each for each in findings if each.topic == "coordinator"]
    assert found.state == "wrong"
    assert found.todo
    assert words in found.says
    assert "the proxy 127.0.0.1:" in (found.todo if "HTTP" not in words else found.says.lower())
    assert ADDRESS in found.says
    assert "\n" not in found.says
    assert "hunter2" not in str(findings) + letter
    assert f"host       {ADDRESS.partition(':')[0]}" in letter
    assert not (tmp_path / "lead").exists(), "nothing is made"


@pytest.mark.parametrize("side", ["lead", "node"])
def test_no_proxy_and_a_name_that_nobody_knows(side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 1.0)
    monkeypatch.setattr(leads, "ROUTE_SECONDS", 1.0)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", ".outside.test")
    findings, letter = asked(side, tmp_path)
    said = {each.topic: each for each in findings}
    assert "straight" in said["route"].says
    assert "straight" in letter
    assert said["coordinator"].state == "wrong"
