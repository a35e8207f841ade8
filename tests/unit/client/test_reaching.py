"""Reaching a coordinator: logging in, certificates and their end, routes; what stands in the way is told apart."""

import contextlib
import json
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.client import channel
from coordinator.client.enrolment import renewed
from coordinator.client.home import Home
from coordinator.registry.authority import Authority
from federation.errors import FederationError, InvalidIdentity, InvalidUsage, NotFound, Unavailable
from federation.identity.transport import Principal, TransportKey
from federation.route import Route, route_to
from tests.unit.client.scripted import FEDERATION, LEAD, Coordinator, coordinator, free_port, logged_in
from tests.unit.client.typed import Said, concord, done, mode, refused, tree, typed
from tests.unit.identity.parties import found

DAY = timedelta(hours=24)


def ticket(path: Path, server: Coordinator, **changes: Any) -> Path:
    """As `concord-coordinator ticket` writes it."""
    key = TransportKey.generate()
    certificate = server.authority.issue_for(
        key.private.public_key(), Principal("ticket", name="t1"), datetime.now(UTC), DAY
    )
    document = {
        "federation": FEDERATION,
        "address": server.address,
        "caPem": server.authority.certificate_pem.decode(),
        "ticketId": "t1",
        "token": "secret-token",
        "certificatePem": certificate.decode(),
        "keyPem": key.to_pem().decode(),
        "expires": (datetime.now(UTC) + DAY).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "subject": {"kind": "lead", "lead": LEAD},
        **changes,
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


@pytest.fixture
def fresh(server: Coordinator, tmp_path: Path) -> Home:
    """The lead's home before the first login."""
    home = logged_in(tmp_path / "fresh", server)
    for name in ("connection.json", "transport.pem", "ca.pem", "roll.json"):
        (home.path / name).unlink()
    home.transport_key_path.unlink()
    return home


def log_in(home: Home, path: Path, *more: str | Path) -> Said:
    return concord("login", "--home", home.path, "--ticket", path, *more)


# -------------------------------------------------------------------------------------------------------------------- login


def test_a_ticket_becomes_a_connection(server: Coordinator, fresh: Home, tmp_path: Path) -> None:
    answer = done(log_in(fresh, ticket(tmp_path / "t.json", server)))
    assert answer.err.startswith(f"logged in to health as lead lead, straight to {server.address} (loopback), until ")
    assert "secret-token" not in answer.err
    assert mode(fresh.transport_key_path) == 0o600
    roll = fresh.roll()
    assert roll is not None
    assert roll.digest == server.parties.roll.digest
    assert done(concord("get", "jobs", "--home", fresh.path)).err == "there are no jobs yet\n"


def test_the_installed_command_logs_in(server: Coordinator, fresh: Home, tmp_path: Path) -> None:
    words = ("--home", fresh.path, "--ticket", ticket(tmp_path / "t.json", server))
    assert "logged in to health" in done(typed("concord", "login", *words, folder=tmp_path)).err


KEPT: dict[str, tuple[dict[str, Any], type[FederationError], str]] = {
    "a node's": ({"subject": {"kind": "node", "member": "fr", "node": "fr-1"}}, InvalidUsage, "concord-node join"),
    "expired": ({"expires": "2026-01-31T12:00:00Z"}, InvalidIdentity, "expired on 2026-01-31 12:00 UTC"),
    "another lead's": ({"subject": {"kind": "lead", "lead": "ana"}}, InvalidUsage, "The ticket was not used"),
    "of no kind": ({"subject": {"kind": "queen", "queen": "ana"}}, InvalidIdentity, "is not a ticket"),
    "with a bad name": ({"subject": {"kind": "lead", "lead": "\x1b[2J"}}, InvalidIdentity, "is not a ticket"),
    "without address": ({"address": "coordinator"}, InvalidUsage, '"coordinator" is not an address'),
    "without subject": ({"subject": None}, InvalidIdentity, "is not a ticket"),
}


@pytest.mark.parametrize("how", KEPT)
def test_a_ticket_that_cannot_work_is_not_used_up(server: Coordinator, fresh: Home, tmp_path: Path, how: str) -> None:
    changes, kind, words = KEPT[how]
    path = ticket(tmp_path / "t.json", server, **changes)
    refused(log_in(fresh, path), kind, words)
    assert server.calls == []
    assert not (fresh.path / "connection.json").exists()


def test_a_ticket_is_not_used_up_from_the_wrong_home(server: Coordinator, home: Home, tmp_path: Path) -> None:
    path = ticket(tmp_path / "t.json", server)
    options = ("--id", "fr", "--name", "L", "--jurisdiction", "FR", "--out", tmp_path / "card.json")
    done(concord("member", "init", "--home", tmp_path / "officer", *options))
    refused(log_in(Home.at(tmp_path / "officer"), path), InvalidUsage, "is the home of the member fr")
    other = coordinator()
    (tmp_path / "roll.json").write_bytes(found("fr", "ke", "us").roll.envelope)
    refused(log_in(home, path, "--roll", tmp_path / "roll.json"), InvalidUsage, "trusts another roll")
    refused(log_in(home, ticket(path, other, federation="atlas")), InvalidUsage, "belongs to the federation health")
    assert server.calls == []


def test_a_ticket_that_others_may_read_is_not_used(server: Coordinator, fresh: Home, tmp_path: Path) -> None:
    path = ticket(tmp_path / "t.json", server)
    path.chmod(0o644)
    refused(log_in(fresh, path), InvalidIdentity, "Other users of this machine may read the ticket", "chmod 600")
    refused(log_in(fresh, tmp_path / "none.json"), NotFound, "There is no ticket at", "Ask the operator")


def test_a_pipe_is_no_ticket(fresh: Home, tmp_path: Path) -> None:
    """And nobody waits for what nobody writes."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused(log_in(fresh, tmp_path / "pipe"), InvalidUsage, "is not a regular file")


def other_key(server: Coordinator) -> Any:
    public = TransportKey.generate().private.public_key()
    return lambda _csr, principal: server.authority.issue_for(public, principal, datetime.now(UTC), DAY)


def other_name(server: Coordinator) -> Any:
    return lambda csr, _principal: server.authority.issue(csr, Principal("lead", name="eve"), datetime.now(UTC), DAY)


@pytest.mark.parametrize("lie", [other_key, other_name])
def test_a_certificate_for_somebody_else_is_not_kept(
    server: Coordinator, fresh: Home, tmp_path: Path, lie: Any
) -> None:
    server.issued = lie(server)
    refused(
        log_in(fresh, ticket(tmp_path / "t.json", server)), InvalidIdentity, "for somebody else", "Tell the operator"
    )
    assert not (fresh.path / "connection.json").exists()


def test_a_roll_that_the_coordinator_made_up_is_not_kept(server: Coordinator, fresh: Home, tmp_path: Path) -> None:
    (tmp_path / "roll.json").write_bytes(server.parties.roll.envelope)
    server.roll = found("fr", "ke", "us").roll.envelope
    path = ticket(tmp_path / "t.json", server)
    answer = log_in(fresh, path, "--roll", tmp_path / "roll.json")
    refused(answer, InvalidUsage, "trusts another roll", "Ask the members which one they signed")
    assert fresh.roll_envelope() == server.parties.roll.envelope
    server.roll = b"{}"
    refused(log_in(fresh, path), InvalidIdentity)
    assert not (fresh.path / "connection.json").exists()


def test_a_lead_who_is_not_on_the_roll_is_warned(server: Coordinator, tmp_path: Path) -> None:
    home = Home.at(tmp_path / "impostor")
    options = ("--id", LEAD, "--member", "fr", "--name", "A", "--out", tmp_path / "card.json")
    done(concord("lead", "init", "--home", home.path, *options))
    answer = done(log_in(home, ticket(tmp_path / "t.json", server)))
    assert "warning: the roll lists another key for lead than this home's" in answer.err


# ------------------------------------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize(
    ("age", "renews"), [(timedelta(0), False), (0.6 * DAY, False), (0.7 * DAY, True), (0.95 * DAY, True)]
)
def test_a_certificate_is_renewed_in_its_last_third(
    server: Coordinator, tmp_path: Path, age: timedelta, renews: bool
) -> None:
    home = logged_in(tmp_path / "home", server, age=age)
    before = (home.path / "transport.pem").read_bytes()
    done(concord("get", "jobs", "--home", home.path))
    assert server.calls == (["Renew"] if renews else []) + ["List"]
    assert ((home.path / "transport.pem").read_bytes() != before) == renews


@pytest.mark.parametrize("lie", [other_key, other_name, lambda _server: lambda _csr, _principal: b"no certificate"])
def test_a_renewal_for_somebody_else_is_not_kept(server: Coordinator, tmp_path: Path, lie: Any) -> None:
    home = logged_in(tmp_path / "home", server, age=0.9 * DAY)
    server.issued = lie(server)
    before = tree(home.path)
    done(concord("get", "jobs", "--home", home.path))
    assert server.calls == ["Renew", "List"]
    assert tree(home.path) == before


def test_a_failed_renewal_is_no_error_while_the_certificate_holds(server: Coordinator, tmp_path: Path) -> None:
    home = logged_in(tmp_path / "home", server, age=0.9 * DAY)
    server.stop()
    endpoint = renewed(home, home.endpoint(), datetime.now(UTC), {})
    assert endpoint == home.endpoint()
    server.start()


def test_an_expired_certificate_is_told_before_anything_is_dialled(server: Coordinator, tmp_path: Path) -> None:
    home = logged_in(tmp_path / "home", server, age=2 * DAY)
    end = x509.load_pem_x509_certificate((home.path / "transport.pem").read_bytes()).not_valid_after_utc
    for words in (("get", "jobs"), ("describe", "x"), ("watch", "x"), ("logs", "x"), ("cancel", "x")):
        answer = concord(*words, "--home", home.path)
        refused(answer, InvalidIdentity, f"expired on {end:%Y-%m-%d %H:%M} UTC", "new ticket", "concord login")
    assert server.calls == []
    assert done(concord("get", "members", "--home", home.path)).out  # the roll is one's own


DAMAGED = {
    "transport.pem": ("The transport certificate is damaged", "concord login"),
    "ca.pem": ("The federation's CA certificate", "is damaged"),
    "connection.json": ("connection.json is damaged", "concord login"),
    "keys/transport.key": ("transport.key", "concord login"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(server: Coordinator, home: Home, name: str) -> None:
    (home.path / name).write_text("no")
    answer = concord("get", "jobs", "--home", home.path)
    refused(answer, InvalidUsage if name == "connection.json" else InvalidIdentity, *DAMAGED[name])


def test_a_damaged_roll_is_named(home: Home) -> None:
    home.roll_path.write_bytes(home.roll_path.read_bytes()[:-9])
    refused(concord("get", "members", "--home", home.path), InvalidIdentity, "roll.json", "put back the roll")


def test_a_key_that_is_not_the_certificates_is_told(home: Home) -> None:
    home.transport_key_path.write_bytes(TransportKey.generate().to_pem())
    refused(concord("get", "jobs", "--home", home.path), InvalidIdentity, "is not for the transport key that is there")


# ------------------------------------------------------------------------------------------------------ what is in the way


def at(home: Home, address: str, federation: str = FEDERATION) -> Home:
    (home.path / "connection.json").write_text(json.dumps({"address": address, "federation": federation}))
    return home


def asked(home: Home) -> Said:
    return concord("get", "jobs", "--home", home.path)


def test_a_coordinator_that_is_not_running(home: Home) -> None:
    port = free_port()
    answer = refused(asked(at(home, f"127.0.0.1:{port}")), Unavailable, f"127.0.0.1:{port} does not answer")
    assert "the connection was refused" in answer.err


def test_an_address_that_is_none(home: Home) -> None:
    refused(asked(at(home, "coordinator")), InvalidUsage, '"coordinator" is not an address', "host:port")


def test_a_coordinator_of_another_federation(server: Coordinator, home: Home) -> None:
    refused(asked(at(home, server.address, "atlas")), InvalidIdentity, "its certificate is for another name")


def test_a_coordinator_of_another_authority(server: Coordinator, home: Home) -> None:
    (home.path / "ca.pem").write_bytes(Authority.create(FEDERATION, datetime.now(UTC)).certificate_pem)
    refused(asked(home), InvalidIdentity, "does not show a good certificate of your federation's CA")


def test_a_certificate_that_the_coordinator_does_not_take(server: Coordinator, home: Home) -> None:
    stranger = Authority.create(FEDERATION, datetime.now(UTC))
    public = home.transport_key().private.public_key()
    home.renew_certificate(stranger.issue_for(public, Principal("lead", name=LEAD), datetime.now(UTC), DAY))
    refused(asked(home), Unavailable, "closed the connection", "does not accept this home's certificate")
    assert server.calls == []


def test_a_port_that_speaks_no_tls(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def answer() -> None:
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    connection.settimeout(2)
                    while connection.recv(4096):
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        said = asked(at(home, f"127.0.0.1:{listener.getsockname()[1]}"))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    refused(said, Unavailable, "does not speak TLS", "right port")


def test_a_coordinator_that_is_too_slow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.client.sdk.UNARY_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = asked(at(home, f"127.0.0.1:{listener.getsockname()[1]}"))
    refused(answer, Unavailable, "did not answer in time", "try again")


WORDS = {
    "errors resolving x:1: [field:hostname lookup error:Domain name not found]": "The host of place was not found",
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:1: Network is unreachable": "does not lead there",
    "last error: UNAVAILABLE: ipv4:1.2.3.4:1: Handshake read failed (Endpoint closing)": "then stayed silent",
    "something \x1b[2J new": "does not answer: something  [2J new",
    "": "no reason was given",
}


@pytest.mark.parametrize("details", WORDS)
def test_what_the_network_says_becomes_a_sentence(details: str) -> None:
    error = channel._error_of_status(channel.grpc.StatusCode.UNAVAILABLE, channel.plain(details), Route("place"))
    assert isinstance(error, Unavailable)
    assert WORDS[details] in error.message
    assert error.hint


# -------------------------------------------------------------------------------------------------------------------- routes


def test_a_proxy_that_cannot_work_is_refused_before_anything_is_dialled(
    server: Coordinator, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example.org:1080")
    assert asked(home).code == 0  # loopback goes straight
    answer = asked(at(home, "coordinator.example.org:7443"))
    refused(answer, InvalidUsage, "HTTPS_PROXY names a socks5 proxy", "no_proxy")


def test_an_error_names_the_proxy_and_not_its_password(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:hunter2@127.0.0.1:{free_port()}")
    answer = asked(at(home, "coordinator.example.org:7443"))
    refused(answer, Unavailable, "coordinator.example.org:7443, through the proxy 127.0.0.1")
    assert "hunter2" not in answer.err


@given(st.text(st.characters(codec="ascii"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_an_address_or_wrong_usage(text: str) -> None:
    with contextlib.suppress(InvalidUsage):
        route = route_to(text, {})
        assert route.address == text
        assert 0 < int(text.rpartition(":")[2]) < 65_536


@pytest.mark.parametrize(
    ("address", "environment", "proxied"),
    [
        ("c.example.org:1", {}, False),
        ("c.example.org:1", {"http_proxy": "p:3128"}, True),
        ("c.example.org:1", {"HTTPS_PROXY": "http://p:3128", "no_proxy": "example.org"}, False),
        ("c.example.org:1", {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": ".example.org"}, False),
        ("cexample.org:1", {"HTTPS_PROXY": "http://p:3128", "no_proxy": "example.org"}, True),
        ("10.1.2.3:1", {"https_proxy": "http://p:3128", "no_proxy": "10.0.0.0/8"}, False),
        ("localhost:1", {"https_proxy": "http://p:3128"}, False),
        ("127.8.8.8:1", {"https_proxy": "http://p:3128"}, False),
        ("[::1]:1", {"https_proxy": "http://p:3128"}, False),
        ("c.example.org:1", {"https_proxy": "http://p:3128", "no_proxy": "*"}, False),
    ],
)
def test_the_route_follows_the_environment(address: str, environment: dict[str, str], proxied: bool) -> None:
    route = route_to(address, environment)
    assert bool(route.proxy) == proxied
    assert dict(route.options)["grpc.enable_http_proxy"] == int(proxied)
