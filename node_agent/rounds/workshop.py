"""Where workers keep their files, if not in the home: ``scratch`` in node.yaml, a folder of the lab's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from federation.errors import InvalidUsage
from node_agent.settings import NodeSettings
from node_agent.store.files import private_folder

HINT: Final = (
    "Name a folder of its own, such as scratch: /var/tmp/concord, or take the line out: the home is used then."
)


def workshop_of(settings: NodeSettings) -> Path | None:
    """This node's own folder in ``scratch``, since the jobs of two nodes on one machine have the same names. None: in the home."""
    return None if settings.scratch is None else Path(settings.scratch) / f"{settings.federation}-{settings.node}"


def check_workshop(settings: NodeSettings, home: Path) -> None:
    """Makes it. Raises InvalidUsage when it is nowhere, cannot be written, or shares files with the home or a data set, which jobs
    read."""
    if settings.scratch is None:
        return
    named, place = Path(settings.scratch), workshop_of(settings)
    assert place is not None
    if not named.is_absolute():
        raise InvalidUsage(
            f"scratch ({named}) depends on where the node is started.", hint="Write it out from the root."
        )
    if not named.is_dir():
        raise InvalidUsage(f"scratch ({named}) is no folder that is there.", hint="Make it, or mount it, first.")
    shared = {
        "this node's home": home,
        **{f"the data set {name}": Path(held.path) for name, held in settings.data_sets.items()},
    }
    for what, other in shared.items():
        there, here = other.resolve(), named.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise InvalidUsage(f"scratch ({named}) shares files with {what} ({other}).", hint=HINT)
    if place.is_symlink() or (place.exists() and place.stat().st_uid != os.geteuid()):
        raise InvalidUsage(f"{place} is not this user's folder.", hint=HINT)
    try:
        private_folder(place)
        probe = place / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InvalidUsage(f"scratch ({named}) cannot be written: {error.strerror}.", hint=HINT) from None
