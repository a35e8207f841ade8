"""What each data set of a job held when this lab consented to it: by that a node tells data that only grew from data that changed.

One file a job, in the job's own folder, for jobs whose version rule is ``minor``; erased with the folder. Without it nothing has
grown only: then the data must be exactly what was consented to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node_agent.store.data_version import DataVersions, Inventory, only_grew
from node_agent.store.files import write_whole

FILE: Final = "data.json"
LIMIT: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Inventories:
    folder: Callable[[bytes], Path]
    """of a job"""
    versions: DataVersions
    seal: Callable[[bytes], bytes]
    """what of a version may leave (``node_agent.catalogue.versions``)"""

    def keep(self, job: bytes, places: Mapping[str, Path]) -> None:
        """``places``: of each data set that the job uses here. On disk when this returns. Raises OSError."""
        document = {name: _written(self.versions.inventory(place)) for name, place in places.items()}
        write_whole(self.folder(job) / FILE, json.dumps(document).encode())

    def grew(self, job: bytes, name: str, place: Path, consented: bytes) -> bool:
        """Whether all that the data set held when its sealed version was ``consented`` is there, unchanged. Raises OSError."""
        before = self._kept(job, name)
        if before is None or self.seal(before.version) != consented:
            return False
        return only_grew(before, self.versions.inventory(place), place)

    def _kept(self, job: bytes, name: str) -> Inventory | None:
        try:
            with (self.folder(job) / FILE).open("rb") as stream:
                data = stream.read(LIMIT + 1)
            return None if len(data) > LIMIT else _read(json.loads(data)[name])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _written(held: Inventory) -> dict[str, Any]:
    files = None if held.files is None else [[name, size, digest.hex()] for name, size, digest in held.files]
    return {"version": held.version.hex(), "whole": held.whole, "files": files}


def _read(document: dict[str, Any]) -> Inventory:
    files = document["files"]
    listed = None if files is None else tuple((str(name), int(size), bytes.fromhex(hex)) for name, size, hex in files)
    return Inventory(bytes.fromhex(document["version"]), document["whole"] is True, listed)
