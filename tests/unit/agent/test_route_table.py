"""The way to the coordinator: which variable decides, what goes straight, what is refused at once, and what nobody is shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import FederationError, InvalidUsage, Unavailable, told
from federation.route import EXCEPTIONS, VARIABLES, Route, route_to
from tests.e2e.proxies import ConnectProxy
from tests.unit.agent.homes import Site, serving

ADDRESS = "coordinator.example.org:7443"


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *EXCEPTIONS):
        monkeypatch.delenv(name, raising=False)


# -------------------------------------------------------------------------------------------------------------- which is taken


def test_each_variable_names_a_proxy_in_small_and_capital_letters() -> None:
    assert {name.lower() for name in VARIABLES} == {"https_proxy", "http_proxy", "all_proxy"}
    assert set(VARIABLES) == {case(name) for name in VARIABLES for case in (str.lower, str.upper)}
    for name in VARIABLES:
        route = route_to(ADDRESS, {name: "http://proxy.lab:3128"})
        assert route.proxy == "http://proxy.lab:3128"
        assert route.sentence == f"to {ADDRESS} through the proxy proxy.lab:3128 ({name} is set)"


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(VARIABLES, 2)))
def test_of_two_the_more_exact_one_is_taken(first: str, second: str) -> None:
    """https before http before all; small letters before capitals, as curl has it."""
    both = {second: "http://second:2", first: "http://first:1"}
    assert route_to(ADDRESS, both).shown == "first:1"
    assert route_to(ADDRESS, {**both, first: " "}).shown == "second:2"
    assert route_to(ADDRESS, {**both, second: "socks5://second:1080"}).shown == "first:1"


def test_without_a_proxy_it_goes_straight_and_grpc_may_not_choose_one() -> None:
    route = route_to(ADDRESS, {"ftp_proxy": "http://p:1", "PROXY": "p:1"})
    assert route.sentence == f"straight to {ADDRESS} (no proxy is set)"
    assert route.options == (("grpc.enable_http_proxy", 0),)
    proxied = route_to(ADDRESS, {"https_proxy": "p:1"})
    assert dict(proxied.options) == {"grpc.enable_http_proxy": 1, "grpc.http_proxy": "http://p:1"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://proxy.lab:3128", "proxy.lab:3128"),
        ("proxy.lab:3128", "proxy.lab:3128"),
        ("http://proxy.lab", "proxy.lab:80"),
        ("HTTP://Proxy.Lab:3128/", "proxy.lab:3128"),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ("http://ann:secret@proxy.lab:3128", "proxy.lab:3128"),
        ("ann:secret@proxy.lab:3128", "proxy.lab:3128"),
        ("  http://proxy.lab:3128  ", "proxy.lab:3128"),
    ],
)
def test_a_proxy_is_named_as_people_write_it(value: str, shown: str) -> None:
    assert route_to(ADDRESS, {"HTTPS_PROXY": value}).shown == shown


# --------------------------------------------------------------------------------------------------------------- what goes straight


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "localhost."]
)
def test_loopback_never_goes_through_a_proxy(host: str) -> None:
    route = route_to(f"{host}:7443", dict.fromkeys(VARIABLES, "http://p:3128"))
    assert (route.proxy, route.reason) == ("", "loopback")


NAMED = {
    "coordinator.example.org": "coordinator.example.org",
    "COORDINATOR.example.ORG": "Coordinator.Example.org",
    "example.org": "coordinator.example.org",
    ".example.org": "coordinator.example.org",
    "*.example.org": "coordinator.example.org",
    " a.test , example.org ": "coordinator.example.org",
    "*": "coordinator.example.org",
    "10.1.2.3": "10.1.2.3",
    "10.0.0.0/8": "10.1.2.3",
    "2001:db8::/32": "[2001:db8::7]",
    "org": "coordinator.example.org.",
}
NOT_NAMED = {
    "": "coordinator.example.org",
    ",, ,": "coordinator.example.org",
    ".": "coordinator.example.org",
    "ordinator.example.org": "coordinator.example.org",
    "example.com": "coordinator.example.org",
    "example.org.evil.test": "coordinator.example.org",
    "a.coordinator.example.org": "coordinator.example.org",
    "10.0.0.0/16": "10.1.2.3",
    "10.1.2.30": "10.1.2.3",
    "300.0.0.0/8": "10.1.2.3",
    "2001:db8::/32": "10.1.2.3",
}


@pytest.mark.parametrize("variable", EXCEPTIONS)
def test_no_proxy_names_hosts_suffixes_and_networks(variable: str) -> None:
    for names, host in NAMED.items():
        route = route_to(f"{host}:7443", {"https_proxy": "http://p:3128", variable: names})
        assert (route.proxy, route.reason) == ("", f"{variable} names it"), names
    for names, host in NOT_NAMED.items():
        assert route_to(f"{host}:7443", {"https_proxy": "http://p:3128", variable: names}).proxy, names


def test_either_spelling_of_no_proxy_is_heard() -> None:
    environment = {"ALL_PROXY": "http://p:1", "no_proxy": "example.com", "NO_PROXY": "example.org"}
    assert route_to(ADDRESS, environment).proxy == ""
    assert route_to("c.example.com:1", environment).proxy == ""
    assert route_to("c.example.net:1", environment).proxy != ""


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(LABEL, min_size=1, max_size=4), st.lists(LABEL, min_size=1, max_size=3), LABEL)
def test_a_suffix_is_one_of_whole_labels(inner: list[str], suffix: list[str], other: str) -> None:
    """What ends in the same letters, but not after a dot, is another host."""
    end = ".".join([*suffix, "test"])
    for host, straight in ((f"{'.'.join(inner)}.{end}", True), (end, True), (f"{other}{end}", False)):
        environment = {"https_proxy": "p:1", "no_proxy": f".{end}"}
        assert (route_to(f"{host}:7443", environment).proxy == "") == straight, host


# -------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "socks", "https", "SOCKS5", "ftp"])
@pytest.mark.parametrize("name", ["https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_work_is_refused_with_what_to_do(name: str, scheme: str) -> None:
    environment = {name: f"{scheme}://ann:hunter2@proxy.lab:1080"}
    with pytest.raises(InvalidUsage) as said:
        route_to(ADDRESS, environment)
    assert f"{name} names a {scheme.lower()} proxy" in said.value.message
    assert "http://host:port" in said.value.hint
    assert "no_proxy" in said.value.hint
    assert "hunter2" not in "".join(told(said.value)) + repr(said.value)
    assert route_to(ADDRESS, {**environment, "no_proxy": "example.org"}).proxy == ""
    assert route_to("127.0.0.1:7443", environment).proxy == ""


@pytest.mark.parametrize(
    "value", ["http://", "http://:3128", "http://ann:hunter2@", "http://p:hunter2", "http://[::1:1", "http://p:99999"]
)
def test_what_names_no_proxy_is_refused(value: str) -> None:
    with pytest.raises(InvalidUsage, match="https_proxy does not name a proxy") as said:
        route_to(ADDRESS, {"https_proxy": value})
    assert "http://[name:password@]host:port" in said.value.hint
    assert "hunter2" not in "".join(told(said.value))


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":7443", "host:0", "host:65536", "host:-1", "a/b:1", "::1:1", "[::1]", "h:٣"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidUsage, match="is not an address") as said:
        route_to(address, {})
    assert "host:port" in said.value.hint


# --------------------------------------------------------------------------------------------------------------------- secrets

MARK = "Zq7"
SECRET = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=12).map(MARK.__add__)


@settings(max_examples=80, deadline=None)
@given(SECRET, SECRET, st.sampled_from(VARIABLES), st.sampled_from(["http", "socks5", "https"]))
def test_credentials_are_nowhere_that_people_look(name: str, password: str, variable: str, scheme: str) -> None:
    written = [quote(name, safe=""), quote(password, safe="")]
    try:
        route = route_to(ADDRESS, {variable: f"{scheme}://{':'.join(written)}@proxy.lab:3128"})
    except FederationError as error:
        assert scheme != "http"
        texts = ["\n".join(told(error)), repr(error), str(error)]
    else:
        assert f"//{':'.join(written)}@" in route.proxy
        texts = [str(route), repr(route), f"{route}", route.sentence, route.place, route.shown, route.reason]
        for status in ("403", "407"):
            said = route.refusal(f"HTTP proxy returned response code {status}")
            assert isinstance(said, Unavailable)
            texts += ["\n".join(told(said)), repr(said)]
    assert len("".join(texts)) > 100
    assert MARK not in "".join(texts)


def test_only_a_proxy_s_refusal_is_told_as_one() -> None:
    straight, proxied = Route(ADDRESS), route_to(ADDRESS, {"https_proxy": "p:1"})
    details = "connection failed: HTTP proxy returned response code 403"
    assert straight.refusal(details) is None
    assert proxied.refusal("Connection refused") is None
    refused = proxied.refusal(details)
    assert refused is not None
    assert "answers HTTP 403" in refused.message
    assert "allow CONNECT" in refused.hint


# ------------------------------------------------------------------------------------------------------------------ a real proxy


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.server = serving(site.parties)
    site.init()
    yield site
    site.server.stop()


CREDENTIALS = ["ann:hunter2", "ann:p@ss:w/rd?#%", "bob:", "dörte:schlüssel"]


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_a_node_joins_through_a_proxy_with_its_name_and_password(
    site: Site, monkeypatch: pytest.MonkeyPatch, credentials: str
) -> None:
    name, password = credentials.split(":", 1)
    with ConnectProxy({ADDRESS: site.server.port}, credentials) as proxy:
        url = f"http://{quote(name, safe='')}:{quote(password, safe='')}@{proxy.address}"
        monkeypatch.setenv("https_proxy", url)
        sentence = site.join(ticket=site.ticket(address=ADDRESS))
        assert sentence == f"to {ADDRESS} through the proxy {proxy.address} (https_proxy is set)"
        assert proxy.passed() == 1
    assert site.home.settings().address == ADDRESS
    held = b"".join(path.read_bytes() for path in site.home.root.rglob("*") if path.is_file())
    assert not password or quote(password, safe="").encode() not in held


@pytest.mark.parametrize(
    ("given_", "hosts", "words", "hint"),
    [
        ("", {ADDRESS: 0}, "answers HTTP 407", "http://name:password@host:port"),
        ("ann:wrong@", {ADDRESS: 0}, "answers HTTP 407", "http://name:password@host:port"),
        ("ann:hunter2@", {}, "answers HTTP 403", "allow CONNECT to this one host and port"),
    ],
)
def test_a_proxy_that_refuses_is_named_and_the_home_stays_as_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch, given_: str, hosts: dict[str, Any], words: str, hint: str
) -> None:
    before = site.home.settings_file.read_bytes()
    with ConnectProxy(dict.fromkeys(hosts, site.server.port), "ann:hunter2") as proxy:
        monkeypatch.setenv("https_proxy", f"http://{given_}{proxy.address}")
        with pytest.raises(Unavailable) as said:
            site.join(ticket=site.ticket(address=ADDRESS))
        assert f"The proxy {proxy.address}" in said.value.message
        assert proxy.passed() == 0
    assert words in said.value.message
    assert hint in said.value.hint
    assert "hunter2" not in "".join(told(said.value))
    assert site.home.settings_file.read_bytes() == before
    assert site.server.calls == []


def test_loopback_is_dialled_straight_past_a_proxy_that_is_set(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy({}) as proxy:
        for name in VARIABLES:
            monkeypatch.setenv(name, f"http://{proxy.address}")
        assert site.join() == f"straight to {site.server.address} (loopback)"
        assert proxy.asked == []
