"""The way to the coordinator: straight, or through an HTTP proxy with CONNECT. We decide it, and say which is taken.

gRPC left alone would send even loopback through ``http_proxy``, and read only some of the variables. Here loopback and the hosts of
``no_proxy`` go straight; else the first of ``VARIABLES`` that is set names the proxy. Credentials in its URL are used as basic
authentication (RFC 9110 section 11.7.2) and never shown. What cannot work (SOCKS, TLS to the proxy) is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from federation.errors import InvalidUsage, Unavailable

VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
EXCEPTIONS: Final = ("no_proxy", "NO_PROXY")

ADDRESS_HINT: Final = "It is host:port, for example coordinator.example.org:7443."
Option = tuple[str, str | int]


@dataclass(frozen=True, slots=True)
class Route:
    address: str
    proxy: str = field(default="", repr=False)
    """the proxy's URL with its credentials; empty: straight"""
    shown: str = ""
    """the proxy as people may see it"""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The route as it is announced."""
        way = f"to {self.address} through the proxy {self.shown}" if self.proxy else f"straight to {self.address}"
        return f"{way} ({self.reason})"

    @property
    def place(self) -> str:
        """The address as errors name it."""
        return f"{self.address}, through the proxy {self.shown}" if self.proxy else self.address

    @property
    def options(self) -> tuple[Option, ...]:
        """Channel arguments: gRPC itself must not choose a proxy."""
        if self.proxy:
            return (("grpc.enable_http_proxy", 1), ("grpc.http_proxy", self.proxy))
        return (("grpc.enable_http_proxy", 0),)

    @property
    def opens_tls(self) -> str:
        """What to do beside, where a certificate is not the federation's."""
        if not self.proxy:
            return " Or something on the way opens the TLS: for this one host it must not."
        return f" Or the proxy {self.shown} opens the TLS inside: ask its operators not to, for this one host."

    @property
    def cuts(self) -> str:
        """What to do beside, where a connection ends or nothing comes back."""
        return f" Or it is the proxy {self.shown}: ask its operators what it does with CONNECT." if self.proxy else ""

    def refusal(self, details: str) -> Unavailable | None:
        """The error that ``details`` of a failed call tell of, if it was the proxy that refused."""
        answer = re.search(r"HTTP proxy returned response code (\d{3})", details)
        if not self.proxy or answer is None:
            return None
        said = (
            f"The proxy {self.shown} does not let the connection to {self.address} pass: it answers HTTP {answer[1]}."
        )
        if answer[1] == "407":
            return Unavailable(
                said,
                hint="It wants a name and a password: write them as http://name:password@host:port, percent-encoded.",
            )
        return Unavailable(
            said, hint="Ask its operators to allow CONNECT to this one host and port, or put the host into no_proxy."
        )


def route_to(address: str, environment: Mapping[str, str]) -> Route:
    """The route to ``address`` ("host:port"). Raises InvalidUsage for an address or a proxy that cannot work."""
    host = host_of(address)
    if _loopback(host):
        return Route(address, reason="loopback")
    for name in EXCEPTIONS:
        if _excepted(host, environment.get(name, "")):
            return Route(address, reason=f"{name} names it")
    for name in VARIABLES:
        value = environment.get(name, "").strip()
        if value:
            return _through(address, value, name)
    return Route(address, reason="no proxy is set")


def host_of(address: str) -> str:
    """The host of "host:port" or "[v6]:port". Raises InvalidUsage."""
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
    if not separator or not host or "/" in host or not 0 < number < 65_536:
        raise InvalidUsage(f'"{address}" is not an address.', hint=ADDRESS_HINT)
    return host


def _through(address: str, value: str, name: str) -> Route:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        scheme, proxy_host, port = parts.scheme, parts.hostname or "", parts.port or 80
    except ValueError:
        scheme, proxy_host, port = "http", "", 0
    if scheme != "http":
        raise InvalidUsage(
            f"{name} names a {scheme} proxy, through which gRPC cannot go.",
            hint="Name an HTTP proxy that allows CONNECT (http://host:port), or put the coordinator's host into no_proxy.",
        )
    if not proxy_host:
        raise InvalidUsage(f"{name} does not name a proxy.", hint="It is http://[name:password@]host:port.")
    credentials = f"{parts.username}:{parts.password or ''}@" if parts.username else ""
    bracketed = f"[{proxy_host}]" if ":" in proxy_host else proxy_host
    return Route(address, f"http://{credentials}{bracketed}:{port}", f"{bracketed}:{port}", f"{name} is set")


def _loopback(host: str) -> bool:
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _excepted(host: str, names: str) -> bool:
    host = host.lower().rstrip(".")
    for entry in (part.strip().lower() for part in names.split(",")):
        if not entry:
            continue
        bare = entry.lstrip("*").lstrip(".")
        if entry == "*" or host == bare or host.endswith(f".{bare}"):
            return True
        try:
            if ip_address(host) in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
