"""What a doctor finds: one sentence of what is so, and where it is wrong, what to do. Facts come as parameters.

``ok``: as it should be. ``note``: worth knowing, nothing to mend at once. ``wrong``: something does not work, or soon will not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from packaging.requirements import InvalidRequirement, Requirement

from federation.errors import FederationError
from federation.route import Route, host_of

State = Literal["ok", "note", "wrong"]
CLOCK_SECONDS: Final = 30.0
"""by which two clocks may differ; certificates and the log's heads bear it"""
GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    topic: str
    state: State
    says: str
    todo: str = ""

    def as_document(self) -> dict[str, str]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        yield f"{self.state:<6} {self.topic}: {self.says}"
        if self.todo:
            yield f"       what to do: {self.todo}"


def any_wrong(findings: Sequence[Finding]) -> bool:
    return any(each.state == "wrong" for each in findings)


def found(topic: str, look: Callable[[], str | Finding]) -> Finding:
    """What ``look`` says; its FederationError or OSError is what is wrong."""
    try:
        said = look()
    except FederationError as error:
        return Finding(topic, "wrong", error.message, error.hint or error.remedy)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return Finding(topic, "wrong", f"{place}{error.strerror or error}.", "Check path and permissions.")
    return said if isinstance(said, Finding) else Finding(topic, "ok", said)


def clock(synchronised: bool | None, stamp: float | None, now: float) -> Finding:
    """``synchronised``: what the kernel says, None: nothing; ``stamp``: the newest time that the coordinator has signed."""
    if stamp is not None and stamp - now > CLOCK_SECONDS:
        return Finding(
            "clock", "wrong", f"It is {stamp - now:.0f} s behind what the coordinator has signed.",
            "Set it by NTP (timedatectl set-ntp true); if it is right, tell the operator that the coordinator's is wrong.",
        )  # fmt: skip
    if synchronised is False:
        return Finding(
            "clock", "note", "The kernel says that nothing keeps it right.",
            "Turn NTP on: timedatectl set-ntp true. A clock that is off by minutes makes good certificates bad.",
        )  # fmt: skip
    return Finding("clock", "ok", "Kept right by the system." if synchronised else "No sign that it is wrong.")


def certificate(topic: str, pem: bytes, now: datetime, renew: str) -> Finding:
    """How long it is good; ``renew``: what to do when it is not."""
    try:
        held = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return Finding(topic, "wrong", "It is no certificate.", renew)
    begins, ends = held.not_valid_before_utc, held.not_valid_after_utc
    if now < begins:
        return Finding(topic, "wrong", f"It is good from {begins:%Y-%m-%d %H:%M} UTC on.", "Set this machine's clock.")
    if now >= ends:
        return Finding(topic, "wrong", f"It ended on {ends:%Y-%m-%d %H:%M} UTC.", renew)
    if ends - now < min((ends - begins) / 4, timedelta(days=30)):
        return Finding(topic, "note", f"It ends soon, on {ends:%Y-%m-%d %H:%M} UTC.", renew)
    return Finding(topic, "ok", f"Good until {ends:%Y-%m-%d %H:%M} UTC.")


def disk(place: str, free: int, total: int, wanted: int = GIB) -> Finding:
    """Bytes. Wrong when nearly nothing is free, a note below ``wanted``."""
    says = f"{place}: {free / GIB:.1f} GiB of {total / GIB:.1f} GiB are free."
    if free < min(wanted, GIB // 4):
        return Finding("disk", "wrong", says, "Free some: without room nothing is promised, and rounds are lost.")
    if free < wanted:
        return Finding("disk", "note", says, f"Updates may need up to {wanted / GIB:.1f} GiB.")
    return Finding("disk", "ok", says)


def versions(product: str, python: str, needed: Sequence[str], installed: Mapping[str, str | None]) -> Finding:
    """``needed``: requirements as packages state them (those of extras are left out); ``installed``: name -> version, or None."""
    wrong = []
    for line in needed:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed.get(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version or 'is missing'} (needs {requirement.specifier or 'any'})")
    says = f"concord {product}, Python {python}"
    if wrong:
        return Finding(
            "versions",
            "wrong",
            f"{says}; {'; '.join(wrong)}.",
            "Install what was tested: pip install -c constraints.txt.",
        )
    return Finding("versions", "ok", f"{says}; {len(needed)} packages in range." if needed else f"{says}.")


def private(topic: str, modes: Mapping[str, int | None]) -> Finding:
    """``modes``: path -> the file's mode, None where it is missing."""
    for path, mode in modes.items():
        if mode is None:
            return Finding(topic, "wrong", f"{path} is missing.", "Restore it from a backup.")
        if mode & 0o077:
            return Finding(topic, "wrong", f"{path} can be read by others.", f"Run: chmod 600 {path}")
    return Finding(topic, "ok", f"{len(modes)} of {len(modes)} are there, and nobody else can read them.")


def letter(federation: str, route: Route) -> str:
    """To the people who run the firewall: what is to be let out, where, and why. It names no proxy's credentials."""
    host, port = host_of(route.address), route.address.rpartition(":")[2]
    way = f"through the HTTP proxy {route.shown}, by CONNECT to {route.address}" if route.proxy else "straight"
    return "\n".join(
        [
            "To the people who run the firewall:",
            "",
            "Please let one connection out.",
            "",
            f"  host       {host}",
            f"  port       {port}, TCP",
            "  direction  outbound, from this machine; nothing comes in",
            f"  way        {way}",
            "  what       TLS with certificates on both sides (gRPC over HTTP/2); it stays open for hours, and is never",
            "             silent for more than 20 seconds: cut it by silence after 60 seconds at the earliest",
            "  please     do not open the TLS: its certificates are of the federation's own authority, and others are refused",
            "",
            f"Why: this machine takes part in the federation {federation}, in which laboratories train models together. Its",
            "data does not leave it: what goes out are this laboratory's decisions, and masked updates that nobody can read",
            "by themselves. No other host or port is needed.",
        ]
    )  # fmt: skip
