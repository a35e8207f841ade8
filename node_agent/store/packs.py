"""Which policy packs this node has seen: name, serial and digest of each, in one file of the home that is whole or absent.

It is on disk before a pack's rules decide anything. So a pack that once took something away is missed when it is gone, and is
recognised when an older one stands in its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from federation.errors import InvalidUsage
from federation.identity.envelope import canonical
from node_agent.store.files import write_whole

FORMAT: Final = "concord/policy-packs/v1"
LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SeenPack:
    layer: str
    serial: int
    digest: bytes
    roll: int
    """of a base pack: the version of the roll that brought it; 0 for others"""


class PackMemory:
    def __init__(self, path: Path) -> None:
        self._path = path

    def packs(self) -> dict[str, SeenPack]:
        """By name. Raises InvalidUsage where the file is there and is not what was written."""
        try:
            with self._path.open("rb") as stream:
                data = stream.read(LIMIT + 1)
        except FileNotFoundError:
            return {}
        try:
            found = _read(json.loads(data))
            if _bytes(found) == data:
                return found
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        raise InvalidUsage(
            f"{self._path.name} does not say any more which policy packs this node has seen.",
            hint="Put it back from a copy, or take it away and look at each pack in policy.d yourself.",
        )

    def remember(self, packs: Mapping[str, SeenPack]) -> None:
        """On disk when this returns."""
        write_whole(self._path, _bytes(packs))


def _bytes(packs: Mapping[str, SeenPack]) -> bytes:
    entries: dict[str, Any] = {
        name: {"layer": seen.layer, "serial": seen.serial, "digest": seen.digest.hex(), "roll": seen.roll}
        for name, seen in packs.items()
    }
    return canonical({"format": FORMAT, "packs": entries})


def _read(document: Any) -> dict[str, SeenPack]:
    return {
        str(name): SeenPack(
            str(entry["layer"]), int(entry["serial"]), bytes.fromhex(entry["digest"]), int(entry["roll"])
        )
        for name, entry in document["packs"].items()
    }
