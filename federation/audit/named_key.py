"""The log's key as the members' charter names it: which one counts, since when, and which ones counted before.

The key is a part of the coordinator's seat on the roll: every founding member signs it, and the quorum for ``coordinator`` changes
it. The tree goes on under another key: what was signed under the one before binds its successor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from federation.audit.checkpoint import Head, VerifierKey, open_head
from federation.errors import VerificationFailed
from federation.identity.roll import Roll


@dataclass(frozen=True, slots=True)
class NamedKey:
    key: VerifierKey
    since: int
    """the version of the roll that named it"""

    @property
    def sentence(self) -> str:
        return f"named by the members' charter since version {self.since} of the roll"


def named_key(roll: Roll) -> NamedKey | None:
    """What the roll in force names; None for a roll that names none, whose readers believe the first key that they are shown."""
    key, since = roll.charter.coordinator.log, roll.version
    if key is None:
        return None
    for past in reversed(roll.past):
        if past.charter.coordinator.log != key:
            break
        since = past.version
    return NamedKey(key, since)


def log_key_of(roll: Roll) -> VerifierKey | None:
    """The key that every head must be signed with; None when no charter names it."""
    return roll.charter.coordinator.log


def log_keys_of(roll: Roll) -> tuple[VerifierKey, ...]:
    """Every key that the charter names or has named, newest first, each once: for heads that somebody kept from before."""
    named = (each.charter.coordinator.log for each in (roll, *reversed(roll.past)))
    return tuple(dict.fromkeys(key for key in named if key is not None))


def open_head_under(note: bytes, keys: Sequence[VerifierKey]) -> tuple[Head, VerifierKey]:
    """A head, and which of these keys signed it. Raises VerificationFailed, about the first of them, when none did."""
    refusal: VerificationFailed | None = None
    for key in keys:
        try:
            return open_head(note, key), key
        except VerificationFailed as error:
            refusal = refusal or error
    raise refusal or VerificationFailed("There is no key to check the head with.", hint="Name the log's key.")
