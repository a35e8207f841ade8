"""Where a service may be listened to without TLS: on this machine and on private networks, and nowhere that the public reaches."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from federation.errors import InvalidUsage

LOCAL: Final = frozenset({"localhost", "ip6-localhost"})


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
