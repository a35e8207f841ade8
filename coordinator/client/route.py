"""The way to a coordinator: straight, or through an HTTP proxy with CONNECT.

gRPC would send even loopback through a proxy, and read only some of the variables. So the route is chosen here and told to gRPC:
loopback and the hosts of ``no_proxy`` go straight; else ``https_proxy``, then ``http_proxy``, in lower or upper case. What cannot
work (a SOCKS proxy, a proxy reached over TLS) is refused with a sentence instead of hanging.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from federation.errors import InvalidUsage

VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")


@dataclass(frozen=True, slots=True)
class Route:
    """``proxy`` may hold a password: ``repr`` and ``label`` never show it."""

    address: str
    proxy: str | None = None
    variable: str = ""

    @property
    def label(self) -> str:
        if self.proxy is None:
            return f"straight to {self.address}"
        parts = urlsplit(self.proxy)
        return f"to {self.address} through the proxy {parts.hostname}:{parts.port or 80} (from {self.variable})"

    @property
    def place(self) -> str:
        """The address as errors name it."""
        if self.proxy is None:
            return self.address
        parts = urlsplit(self.proxy)
        return f"{self.address}, through the proxy {parts.hostname}:{parts.port or 80}"

    def __repr__(self) -> str:
        return f"Route({self.label})"

    def options(self) -> list[tuple[str, str | int]]:
        """Channel options that make gRPC take this route and no other."""
        if self.proxy is None:
            return [("grpc.enable_http_proxy", 0)]
        return [("grpc.enable_http_proxy", 1), ("grpc.http_proxy", self.proxy)]


def route_to(address: str, environment: Mapping[str, str]) -> Route:
    """The route to ``address`` ("host:port"). Raises InvalidUsage for a bad address, or a proxy that cannot work."""
    host = host_of(address)
    if _is_loopback(host) or _is_exempt(host, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return Route(address)
    for variable in VARIABLES:
        value = environment.get(variable, "").strip()
        if value:
            return Route(address, _checked_proxy(value, variable), variable)
    return Route(address)


def host_of(address: str) -> str:
    """The host of "host:port" or "[v6]:port". Raises InvalidUsage when ``address`` is neither."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536 or "/" in host:
        raise InvalidUsage(
            f'"{address}" is not an address.', hint="It is host:port, for example concord.example.org:7443."
        )
    return host


def _checked_proxy(value: str, variable: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidUsage(f"{variable} does not name a proxy.", hint="It is http://[user:password@]host:port.")
    if parts.scheme != "http":
        raise InvalidUsage(
            f"{variable} names a {parts.scheme} proxy, which Concord cannot go through.",
            hint="Use an HTTP proxy that allows CONNECT, or list the coordinator's host in no_proxy.",
        )
    return url


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_exempt(host: str, no_proxy: str) -> bool:
    host = host.lower().rstrip(".")
    for entry in (entry.strip().lower() for entry in no_proxy.split(",")):
        if not entry:
            continue
        if entry == "*" or host == entry.lstrip(".") or host.endswith("." + entry.lstrip(".")):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
