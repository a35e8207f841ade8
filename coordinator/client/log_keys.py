"""Whose word a reader of the public log takes for its key: their own, the members' charter, or whoever named one first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.client.files import read_file
from federation.audit.checkpoint import Head, VerifierKey
from federation.audit.named_key import log_keys_of, named_key, open_head_under
from federation.errors import InvalidUsage, VerificationFailed
from federation.identity.roll import Roll

KEY_FILE: Final = "log.key"
UNNAMED: Final = (
    "No charter vouches for it; the members name it by vote: concord propose coordinator --log-key log.key.pub"
)


@dataclass(frozen=True, slots=True)
class Trusted:
    """The key that the newest head must be signed with."""

    key: VerifierKey
    whence: str
    """who names it, for people"""
    named: bool = False
    """whether a charter that members signed names it"""
    earlier: tuple[VerifierKey, ...] = ()
    """what the charter named before: heads that somebody kept may be signed with these"""

    @property
    def checks(self) -> tuple[str, ...]:
        return (f"The log's key {self.key} is {self.whence}.",) if self.named else ()

    @property
    def unchecked(self) -> tuple[str, ...]:
        return () if self.named else (f"The log's key {self.key} is believed {self.whence}. {UNNAMED}",)

    def open_older(self, note: bytes) -> Head:
        """A head that somebody kept. Raises VerificationFailed."""
        return open_head_under(note, (self.key, *self.earlier))[0]


def trusted_key(
    given: str, roll: Roll | None, pinned: Path | None = None, source: tuple[str, str] = ("", "")
) -> Trusted:
    """The reader's own key first, then the charter's, then the one of their first login, then what the log's server says.

    ``given``: the key itself, or a file that holds it. ``source``: a name and the key as it names it. Raises InvalidUsage when
    nobody names one, VerificationFailed when the reader's own is none that the charter ever named.
    """
    charter = named_key(roll) if roll is not None else None
    known = log_keys_of(roll) if roll is not None else ()
    if given:
        key = _given(given)
        if known and key not in known:
            raise VerificationFailed(
                f"You named the log's key {key}, and the members' charter names {known[0]}.",
                hint="Ask the federation's members which is right. With --roll you say whose charter counts.",
            )
        if charter is not None and key == charter.key:
            return Trusted(key, f"{charter.sentence}, and as you named it", True, known)
        before = f"; the members' charter named it before {known[0]}" if known else ""
        return Trusted(key, f"as you named it{before}", bool(known), known)
    if charter is not None:
        return Trusted(charter.key, charter.sentence, True, known)
    if pinned is not None and pinned.exists():
        return Trusted(read_log_key(pinned), f"as {pinned} has it, from the first login")
    name, named = source
    if named:
        return Trusted(VerifierKey.parse(named), f"as {name} names it")
    raise InvalidUsage(
        "Nobody has named the log's key.",
        hint="Give --key: the line in the coordinator's log.key.pub, or a node's log.key; or a --roll whose charter names it.",
    )


def _given(given: str) -> VerifierKey:
    return VerifierKey.parse(given) if given.count("+") >= 2 and not Path(given).exists() else read_log_key(Path(given))


def log_name(given: str) -> str:
    """Of which log the key is that a reader names."""
    return _given(given).name


def read_log_key(path: Path) -> VerifierKey:
    return VerifierKey.parse(read_file(path, 1000, what="The key of the log").decode(errors="replace").strip())
