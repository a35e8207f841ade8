"""Where a data set may not lie: a job's code reads all of it, so no key of this node, and no coordinator's home, is in it.

A home that is deeper than one folder below a data set is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from federation.errors import InvalidUsage
from node_agent.catalogue.mounts import MOUNTS, mounts_in, other_names
from node_agent.settings import DataSet

COORDINATORS: Final = "coordinator.yaml"
"""a coordinator's home is where this is"""
LOOKED_AT: Final = 1000
HINT: Final = "Move the data to a folder of its own, and tell the node: concord-node data add."


def check_place(name: str, place: Path, home: Path) -> None:
    """Raises InvalidUsage when ``place`` shares files with the node's ``home`` or a coordinator's; links and bind mounts are
    followed."""
    if not place.is_absolute():
        raise InvalidUsage(
            f"The data set {name} ({place}) has a path that depends on where the node is started.",
            hint="Write it out from the root: /srv/data.",
        )
    there, own = place.resolve(), home.resolve()
    mounts = mounts_in(MOUNTS.read_text(errors="surrogateescape")) if MOUNTS.exists() else ()
    for seen in (there, *other_names(there, mounts)):
        if seen.is_relative_to(own) or own.is_relative_to(seen):
            raise InvalidUsage(
                f"The data set {name} ({place}) shares files with this node's own home, {home}.", hint=HINT
            )
        for folder in (seen, *seen.parents, *_below(seen)):
            if _is_file(folder / COORDINATORS):
                raise InvalidUsage(
                    f"The data set {name} ({place}) shares files with a coordinator's home, {folder}, which must see no data.",
                    hint=HINT,
                )


def _below(place: Path) -> Iterator[Path]:
    try:
        yield from (child for child in islice(place.iterdir(), LOOKED_AT) if child.is_dir())
    except OSError:  # a file, or a folder that this user may not look into: no job could read it
        return


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def check_places(data_sets: Mapping[str, DataSet], home: Path) -> None:
    """All of them, as a node does when it starts. One that is not there is not looked at: it may be mounted later."""
    for name, held in data_sets.items():
        place = Path(held.path)
        if not place.is_absolute() or place.exists():
            check_place(name, place, home)
