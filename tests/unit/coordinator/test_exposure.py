"""Figures are served in plain HTTP to this machine and private networks alone; over TLS to whoever is meant to have them."""

from __future__ import annotations

import datetime
import socket
import ssl
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, Gauge

from coordinator.doctor import readiness
from coordinator.main import app
from coordinator.settings import Settings
from coordinator.web import server as coordinators
from coordinator.web.survey import Term
from examples.local_federation import run_command
from federation.errors import InvalidUsage, Unavailable
from federation.exposure import check_exposure
from node_agent.telemetry import server as nodes

SIDES: dict[str, tuple[Any, Callable[..., Any]]] = {
    "coordinator": (
        coordinators,
        lambda tls, at="127.0.0.1:0": coordinators.WebServer(at, registry(), lambda: True, None, tls),
    ),
    "node": (nodes, lambda tls, at="127.0.0.1:0": nodes.MetricsServer(at, registry(), lambda: True, tls)),
}


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Gauge("concord_one", "One.", registry=made).set(1)
    return made


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:0",
        "localhost:9464",
        "[::1]:9464",
        "10.2.3.4:9464",
        "192.168.1.2:1",
        "[fd00::7]:9464",
        "100.64.0.1:1",
    ],
)
def test_this_machine_and_private_networks_need_no_tls(address: str) -> None:
    check_exposure(address, tls=False, setting="metrics:", hint="")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9464",
        "[::]:9464",
        "8.8.8.8:9464",
        "[2606:4700::1]:9464",
        "concord.example.org:9464",
        "*:9464",
        ":9464",
        "224.0.0.1:1",
    ],
)
def test_anywhere_else_takes_tls(address: str) -> None:
    with pytest.raises(InvalidUsage) as said:
        check_exposure(address, tls=False, setting="metrics:", hint="Set a certificate.")
    assert address in said.value.message
    assert said.value.message.count(".") == address.count(".") + 1, "one sentence"
    assert said.value.hint == "Set a certificate."
    check_exposure(address, tls=True, setting="metrics:", hint="")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return papers_in(tmp_path_factory.mktemp("papers"))


def papers_in(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "metrics")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "web.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "web.key").write_bytes(pem)
    (folder / "web.key").chmod(0o600)
    return folder / "web.pem", folder / "web.key"


@pytest.mark.parametrize("side", SIDES)
def test_over_tls_the_figures_are_served_and_nobody_who_speaks_plainly_holds_them_up(
    side: str, papers: tuple[Path, Path]
) -> None:
    room, serve = SIDES[side]
    context = ssl.create_default_context(cafile=papers[0])
    with closing(serve(room.tls_of(*papers))) as server:
        port = int(server.address.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port)) as silent,
            socket.create_connection(("127.0.0.1", port)) as plain,
        ):
            plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            with urllib.request.urlopen(f"https://localhost:{port}/metrics", context=context, timeout=10) as answer:
                assert b"concord_one 1.0" in answer.read()
            assert b"concord" not in plain.recv(4096)
            silent.close()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("at", "shown"), [("[::1]:0", "[::1]:"), ("[127.0.0.1]:0", "127.0.0.1:"), ("127.0.0.1:0", "127.0.0.1:")]
)
def test_figures_are_served_on_addresses_of_both_kinds_and_shown_as_urls_write_them(
    side: str, at: str, shown: str
) -> None:
    """A pod is told its address in brackets, since it may be of either kind."""
    check_exposure(at, tls=False, setting="metrics:", hint="")
    with closing(SIDES[side][1](None, at)) as server:
        assert server.address.startswith(shown)
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as answer:
            assert b"concord_one 1.0" in answer.read()
        assert "is ready" in readiness(f"//{server.address}", None)


def test_the_doctor_believes_the_certificate_that_is_served_and_no_other(
    papers: tuple[Path, Path], tmp_path: Path
) -> None:
    """It asks over the loopback address, which no certificate names; another process at the port has another certificate."""
    with closing(
        coordinators.WebServer("127.0.0.1:0", registry(), lambda: True, None, coordinators.tls_of(*papers))
    ) as web:
        address = f"https://{web.address.removeprefix('https://')}"
        assert "is ready" in readiness(address, papers[0])
        with pytest.raises(Unavailable, match="certificate verify failed"):
            readiness(address, papers_in(tmp_path)[0])


@pytest.mark.parametrize("side", SIDES)
def test_a_key_that_others_can_read_or_that_does_not_fit_is_refused(
    side: str, papers: tuple[Path, Path], tmp_path: Path
) -> None:
    room, _ = SIDES[side]
    copy = tmp_path / "web.key"
    copy.write_bytes(papers[1].read_bytes())
    copy.chmod(0o640)
    with pytest.raises(InvalidUsage, match="can be read by others"):
        room.tls_of(papers[0], copy)
    with pytest.raises(InvalidUsage, match="cannot be used"):
        room.tls_of(papers[0], tmp_path / "none.key")
    other = ec.generate_private_key(ec.SECP256R1())
    copy.chmod(0o600)
    copy.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(InvalidUsage, match="cannot be used: key values mismatch") as said:
        room.tls_of(papers[0], copy)
    assert "belong together" in said.value.hint


def test_when_the_certificate_ends_under_which_figures_are_served_is_known(papers: tuple[Path, Path]) -> None:
    from coordinator.service import web_term
    from coordinator.settings import Home

    certificate, _ = papers
    settings = Settings(
        federation="atlas", metrics="0.0.0.0:1", metrics_certificate=certificate.name, metrics_key="web.key"
    )
    served = x509.load_pem_x509_certificate(certificate.read_bytes())
    assert web_term(Home(certificate.parent), settings) == {
        "metrics": Term(served.not_valid_before_utc, served.not_valid_after_utc)
    }
    assert web_term(Home(certificate.parent), settings.model_copy(update={"metrics": ""})) == {}, "nothing is served"
    assert web_term(Home(certificate.parent), Settings(federation="atlas")) == {}


def test_half_of_the_papers_is_a_contradiction(tmp_path: Path) -> None:
    from coordinator.service import web_tls
    from coordinator.settings import Home
    from node_agent.service import metrics_tls
    from node_agent.settings import Home as NodeHome
    from node_agent.settings import NodeSettings

    with pytest.raises(InvalidUsage, match="only one is set"):
        web_tls(Home(tmp_path), Settings(federation="atlas", metrics_key="web.key"))
    names = {"member": "br", "node": "br-1", "federation": "atlas"}
    with pytest.raises(InvalidUsage, match="only one is set"):
        metrics_tls(NodeHome(tmp_path), NodeSettings(**names, metrics_certificate="web.pem"))
    with pytest.raises(InvalidUsage, match="without TLS"):
        metrics_tls(NodeHome(tmp_path), NodeSettings(**names, metrics="0.0.0.0:9465"))
    assert metrics_tls(NodeHome(tmp_path), NodeSettings(**names, metrics="")) is None


def test_a_home_that_would_not_start_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidUsage, match="without TLS") as said:
        run_command(app, "init", "--home", tmp_path / "home", "--federation", "atlas", "--metrics", "0.0.0.0:9464")
    assert "metrics_certificate" in said.value.hint
    assert not (tmp_path / "home").exists()
