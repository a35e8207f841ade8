"""The way out to the coordinator: straight, or through an HTTP proxy with CONNECT. The agent decides it, and says which it takes.

gRPC left alone would send even loopback through ``http_proxy``. Here loopback always goes straight; ``no_proxy`` is honoured;
``https_proxy``, ``http_proxy`` and ``all_proxy`` are read in lower and upper case; credentials in the URL are used as basic
authentication and never printed. A proxy that cannot work (TLS to the proxy, SOCKS) is refused at once instead of hanging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from federation.errors import InvalidUsage

VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
Option = tuple[str, str | int]


@dataclass(frozen=True, slots=True)
class Route:
    address: str
    proxy: str = field(default="", repr=False)
    """the proxy's URL with its credentials; empty: straight"""
    shown: str = ""
    """how the proxy is named to people"""
    reason: str = ""

    @property
    def sentence(self) -> str:
        way = f"through the proxy {self.shown}" if self.proxy else "straight"
        return f"{self.address} {way} ({self.reason})"

    @property
    def options(self) -> tuple[Option, ...]:
        """Channel arguments: gRPC itself must not look at the environment."""
        if self.proxy:
            return (("grpc.enable_http_proxy", 1), ("grpc.http_proxy", self.proxy))
        return (("grpc.enable_http_proxy", 0),)


def choose(address: str, environment: Mapping[str, str]) -> Route:
    """The route to ``address`` ("host:port"). Raises InvalidUsage for an address or a proxy that cannot work."""
    host = host_of(address)
    if _loopback(host):
        return Route(address, reason="loopback")
    for name in ("no_proxy", "NO_PROXY"):
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
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidUsage(
            f"{address!r} is not host:port.", hint="Set address in node.yaml, for example coordinator.example.org:7443."
        )
    return host.removeprefix("[").removesuffix("]")


def _through(address: str, value: str, name: str) -> Route:
    parts = urlsplit(value if "://" in value else f"http://{value}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http":
        raise InvalidUsage(
            f"{name} names a proxy of kind {parts.scheme}://, through which gRPC cannot go.",
            hint="Name an HTTP proxy that allows CONNECT (http://host:port), or put the coordinator's host into no_proxy.",
        )
    if not parts.hostname or not port:
        raise InvalidUsage(f"{name} does not name a proxy's host and port.", hint="Write it as http://host:port.")
    shown = f"{parts.hostname}:{port}"
    credentials = f"{parts.username}:{parts.password or ''}@" if parts.username else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Route(address, f"http://{credentials}{host}:{port}", shown, f"{name} is set")


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _excepted(host: str, names: str) -> bool:
    for entry in (part.strip().lower() for part in names.split(",")):
        if not entry:
            continue
        bare = entry.lstrip("*").lstrip(".")
        if entry == "*" or host.lower() == bare or host.lower().endswith(f".{bare}"):
            return True
        try:
            if ip_address(host) in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
