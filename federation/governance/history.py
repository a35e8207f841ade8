"""A roll's history: the founding roll, and each change with its decision, in one canonical file. And which roll follows which.

One chain, one version at a time: each roll names the digest of the one before it. Two valid rolls of one version are a fork. It
shows that members signed two different rolls, and whoever sees both keeps both and believes neither.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from federation.errors import InvalidIdentity, ProtocolViolation
from federation.governance.amendment import Amendment, check_amendment
from federation.governance.ballot import Decision
from federation.identity.envelope import canonical
from federation.identity.roll import HISTORY_BEGINS, Roll, open_draft, open_founding

MAX_HISTORY: Final = 3 << 20
"""bytes; it travels in one message"""
MAX_AMENDMENTS: Final = 10_000


def open_history(data: bytes) -> Roll:
    """The newest roll. Raises InvalidIdentity unless it is canonical and every step of it is valid."""
    steps = amendments_of(data)
    return steps[-1].roll


def amendments_of(data: bytes) -> tuple[Amendment, ...]:
    """Each change since the founding, oldest first, checked. Raises InvalidIdentity. None for a founding roll alone."""
    if not data.startswith(HISTORY_BEGINS):
        open_founding(data)
        return ()
    founding, entries = _parts(data)
    roll, steps = open_founding(founding), []
    for place, (envelope, decision) in enumerate(entries):
        step = _step(roll, envelope, decision)
        kept = data if place == len(entries) - 1 else envelope
        roll = replace(step.roll, envelope=kept, past=(*roll.past, roll))
        steps.append(replace(step, roll=roll))
    return tuple(steps)


def founding_of(roll: Roll) -> Roll:
    return roll.past[0] if roll.past else roll


def extended(roll: Roll, envelope: bytes, decision: bytes | None) -> Roll:
    """``roll`` and one change more. Raises InvalidIdentity unless it is valid."""
    _step(roll, envelope, decision)
    founding, entries = _parts(roll.envelope) if roll.past else (roll.envelope, ())
    data = _encoded(founding, (*entries, (envelope, decision)))
    if len(data) > MAX_HISTORY:
        raise InvalidIdentity(
            f"The roll's history would be larger than {MAX_HISTORY} bytes.",
            hint="Found the federation anew: a first roll that all present members sign.",
        )
    return Roll.open(data)


def newest_envelope(roll: Roll) -> bytes:
    """The signed envelope of this version alone."""
    return _parts(roll.envelope)[1][-1][0] if roll.past else roll.envelope


def decision_of(roll: Roll) -> Decision | None:
    """By which this version came into force; None for a founding roll, and where no vote was needed."""
    steps = amendments_of(roll.envelope)
    return steps[-1].decision if steps else None


def succeeds(held: Roll, offered: Roll) -> bool:
    """Whether ``offered`` is newer than ``held`` and continues it; False when they are the same.

    Raises InvalidIdentity for another federation; ProtocolViolation "foreign-roll" for one that others founded, "stale-roll" for
    one that is older, "forked-roll" for one that members decided on beside the one that is held. The evidence is the offered
    history: with the held one it shows a fork to anybody.
    """
    if offered.federation != held.federation:
        raise InvalidIdentity(
            f"The roll is of {offered.federation}, and the one that is held of {held.federation}.",
            hint="Nothing was changed. Tell the coordinator's operator.",
        )
    first, other = founding_of(held), founding_of(offered)
    if first.digest != other.digest:
        raise ProtocolViolation(
            f"The roll was founded by others ({_short(other.digest)}) than the one that is held ({_short(first.digest)}).",
            check="foreign-roll",
            hint="Anybody can found a federation of this name; it is not the one that this home joined.",
            evidence=offered.envelope,
        )
    common = min(held.version, offered.version)
    mine, theirs = held.line.get(common), offered.line.get(common)
    if mine is None or mine != theirs:
        raise ProtocolViolation(
            f"There are two different rolls of {held.federation}, version {common}: {_short(mine)} is held here, and "
            f"{_short(theirs)} was offered.",
            check="forked-roll",
            hint="Stop, and show both to the members: who signed both has broken the charter.",
            evidence=offered.envelope,
        )
    if offered.version < held.version:
        raise ProtocolViolation(
            f"The offered roll is version {offered.version}, and version {held.version} is held here.",
            check="stale-roll",
            hint="An old roll is shown as if it were the newest: ask the operator why.",
            evidence=offered.envelope,
        )
    return offered.version > held.version


def _short(digest: bytes | None) -> str:
    return digest.hex()[:16] if digest is not None else "none"


def _step(roll: Roll, envelope: bytes, decision: bytes | None) -> Amendment:
    draft, signers = open_draft(envelope)
    return check_amendment(roll, draft, signers, decision)


def _encoded(founding: bytes, entries: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    amendments: list[dict[str, Any]] = [
        {"roll": json.loads(envelope), "decision": None if decision is None else json.loads(decision)}
        for envelope, decision in entries
    ]
    return canonical({"founding": json.loads(founding), "amendments": amendments})


def _parts(data: bytes) -> tuple[bytes, tuple[tuple[bytes, bytes | None], ...]]:
    if len(data) > MAX_HISTORY:
        raise InvalidIdentity(f"The roll's history is larger than {MAX_HISTORY} bytes.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidIdentity("The roll's history is not JSON.") from error
    if not isinstance(document, dict) or set(document) != {"founding", "amendments"}:
        raise InvalidIdentity("This is not a roll's history.")
    if canonical(document) != data:
        raise InvalidIdentity(
            "The roll's history is not in its one canonical encoding.", hint="Fetch the original bytes."
        )
    founding, amendments = document["founding"], document["amendments"]
    if not isinstance(founding, dict) or not isinstance(amendments, list) or not 0 < len(amendments) <= MAX_AMENDMENTS:
        raise InvalidIdentity("The roll's history does not hold a founding roll and what changed it.")
    entries: list[tuple[bytes, bytes | None]] = []
    for item in amendments:
        if not isinstance(item, dict) or set(item) != {"roll", "decision"} or not isinstance(item["roll"], dict):
            raise InvalidIdentity("A change in the roll's history is malformed.")
        decision = item["decision"]
        if decision is not None and not isinstance(decision, dict):
            raise InvalidIdentity("A decision in the roll's history is malformed.")
        entries.append((canonical(item["roll"]), None if decision is None else canonical(decision)))
    return canonical(founding), tuple(entries)
