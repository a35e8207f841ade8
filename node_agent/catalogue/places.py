"""Where a data set may not lie: a job's code reads all of it, so no key of this node, and no coordinator's home, is in it.

A home that is deeper than one folder below a data set is not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from federation.errors import InvalidUsage
from node_agent.settings import DataSet

COORDINATORS: Final = "coordinator.yaml"
"""a coordinator's home is where this is"""
LOOKED_AT: Final = 1000
HINT: Final = "Move the data to a folder of its own, and tell the node: concord-node data add."


def check_place(name: str, place: Path, home: Path) -> None:
    """Raises InvalidUsage when ``place``, links followed, shares files with the node's ``home`` or a coordinator's."""
    there, own = place.resolve(), home.resolve()
    if there.is_relative_to(own) or own.is_relative_to(there):
        raise InvalidUsage(f"The data set {name} ({place}) shares files with this node's own home, {home}.", hint=HINT)
    below = (child for child in islice(there.iterdir(), LOOKED_AT) if child.is_dir()) if there.is_dir() else ()
    for folder in (there, *there.parents, *below):
        if (folder / COORDINATORS).is_file():
            raise InvalidUsage(
                f"The data set {name} ({place}) shares files with a coordinator's home, {folder}, which must see no data.",
                hint=HINT,
            )


def check_places(data_sets: Mapping[str, DataSet], home: Path) -> None:
    """All of them, as a node does when it starts. One that is not there is not looked at: it may be mounted later."""
    for name, held in data_sets.items():
        place = Path(held.path)
        if place.exists():
            check_place(name, place, home)
