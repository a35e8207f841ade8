"""What the person of a home has signed and handed to the coordinator, and the public log must hold: `said.json` in the home.

`concord audit verify` looks for each of them in the log that it has computed again, every time: what was in the log once must stay.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coordinator.client.files import read_file, write_file
from federation.errors import InvalidUsage, VerificationFailed

FILE: Final = "said.json"
LIMIT: Final = 4 << 20
KEPT: Final = 4096
"""the newest"""
LATE_SECONDS: Final = 120
"""how much newer than a statement a head may be that does not hold it"""


@dataclass(frozen=True, slots=True)
class Statement:
    what: str
    """as the log calls it"""
    document: str
    """SHA-256 of the envelope, in hex"""
    said: int
    """seconds since 1970, by this machine's clock"""
    federation: str


def note(home: Path, federation: str, what: str, envelope: bytes) -> None:
    """The coordinator has taken it: from now on the log owes it."""
    statement = Statement(what, hashlib.sha256(envelope).hexdigest(), int(time.time()), federation)
    held = statements(home)
    if statement.document not in {each.document for each in held}:
        kept = [asdict(each) for each in (*held, statement)[-KEPT:]]
        write_file(home / FILE, json.dumps(kept, indent=1).encode() + b"\n")


def statements(home: Path) -> tuple[Statement, ...]:
    """Oldest first. Raises InvalidUsage when the file is damaged."""
    path = home / FILE
    if not path.exists():
        return ()
    try:
        return tuple(Statement(**each) for each in json.loads(read_file(path, LIMIT)))
    except (ValueError, TypeError, RecursionError):
        raise InvalidUsage(
            f"{path}, in which this home keeps what it has signed, is damaged.", hint="Restore it, or move it away."
        ) from None


def check_held(home: Path, federation: str, documents: Collection[bytes | None], signed: int) -> int:
    """How many statements of this home the log holds. ``documents``: those that its entries name; ``signed``: when its head was.

    Raises VerificationFailed that names what the log lacks.
    """
    own = [each for each in statements(home) if each.federation == federation]
    missing = [each for each in own if bytes.fromhex(each.document) not in documents]
    if late := [each for each in missing if signed - each.said > LATE_SECONDS]:
        listed = "; ".join(
            f"a {each.what} of {datetime.fromtimestamp(each.said, UTC):%Y-%m-%d %H:%M:%S} UTC, {each.document[:16]}"
            for each in late[:5]
        )
        raise VerificationFailed(
            f"The log is whole, and lacks what this home has signed and the coordinator has taken: {listed}.",
            hint="It is kept from the others: show it to the members by another way, and ask the operator why.",
        )
    return len(own) - len(missing)
