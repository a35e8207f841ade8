"""Where a service may be listened to without TLS: on this machine and on private networks, and nowhere that the public reaches."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from federation.errors import InvalidUsage

LOCAL: Final = frozenset({"localhost", "ip6-localhost"})
SHAPE: Final = re.compile(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]@#?]+):([0-9]{1,5})")


def listened(address: str) -> tuple[str, int]:
    """Host (an IPv6 one without its brackets) and port of "host:port"; port 0: a free one. Raises ValueError with what is wrong."""
    found = SHAPE.fullmatch(address)
    if found is None:
        raise ValueError(f"{address[:100]!r} is not an address; it is host:port, such as 127.0.0.1:7443 or [::1]:7443")
    port = int(found[2])
    if port > 65_535:
        raise ValueError(f"{address[:100]!r} is not an address: ports go to 65535")
    return found[1].strip("[]"), port


def collide(one: str, other: str) -> bool:
    """Whether two services cannot both listen at these addresses, as far as the addresses tell."""
    (host, port), (there, at) = listened(one), listened(other)
    if port != at or port == 0:
        return False
    if host == there or {host, there} <= LOCAL | {"127.0.0.1", "::1"}:
        return True
    try:
        return ip_address(host).is_unspecified or ip_address(there).is_unspecified
    except ValueError:
        return False


def check_exposure(address: str, *, tls: bool, setting: str, hint: str) -> None:
    """``address``: "host:port", or empty for nowhere; ``setting``: its name. Raises InvalidUsage where it is public and plain."""
    host = address.rpartition(":")[0].strip("[]")
    if not address or tls or is_private(host):
        return
    raise InvalidUsage(
        f"{setting} {address} would be readable by whoever reaches this machine, without TLS.", hint=hint
    )


def is_private(host: str) -> bool:
    """Whether only this machine, or a private network, reaches it. False for a name, and for "every address"."""
    if host in LOCAL:
        return True
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return not (ip.is_unspecified or ip.is_multicast or ip.is_global)
