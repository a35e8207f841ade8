"""What a witness must not forget: the log's key, the last head that it checked, what its node has said, and why it stopped.

Files of the folder ``witness`` in the node's home, each whole or absent: ``log.key`` and ``head`` are what any client of such logs
reads; ``state.json`` is this node's own; ``*.fork`` is evidence, for ``concord audit fork``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from federation.audit.checkpoint import ED25519, MAX_NOTE, Head, VerifierKey, origin_of
from federation.audit.named_key import named_key, open_head_under
from federation.errors import FederationError, InvalidIdentity, InvalidUsage
from federation.identity.roll import Roll
from node_agent.store.files import private_folder, write_together, write_whole

STATE_LIMIT: Final = 4 << 20
EXPECTED_KEPT: Final = 4096
"""statements that are waited for at once"""


@dataclass(frozen=True, slots=True)
class Stop:
    when: float
    finding: str
    sentence: str
    evidence: str
    """the file's name in the folder, or empty"""


@dataclass(frozen=True, slots=True)
class Expected:
    """A statement of this node that the log must hold."""

    document: str
    """SHA-256, in hex digits"""
    what: str
    job: str
    said: float
    late: bool = False
    missed: float = 0.0
    """when the log was first seen without it; 0: not looked for yet"""


@dataclass(frozen=True, slots=True)
class State:
    stop: Stop | None = None
    expected: tuple[Expected, ...] = ()
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    """witness -> (size, when) of the newest head of this history that it has cosigned"""


class Notebook:
    """Raises InvalidUsage when a file is damaged: a witness that has forgotten says so, and does not begin anew by itself."""

    def __init__(self, folder: Path, named: Sequence[VerifierKey] = ()) -> None:
        """``named``: the keys that the charter names and has named. With them a crash between head and key is no damage."""
        self.folder, self._named = folder, tuple(named)
        private_folder(folder)
        self.key = self._read_key()
        self.head = self._read_head()
        self.state = self._read_state()

    @property
    def _head_file(self) -> Path:
        return self.folder / "head"

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def pin(self, roll: Roll, named: str) -> VerifierKey:
        """Under a charter that names no key: the one that every head must be signed with from now on. Raises InvalidIdentity."""
        self.key = checked_key(self.folder, roll, named)
        write_whole(key_file(self.folder), f"{self.key}\n".encode())
        return self.key

    def keep_head(self, head: Head, key: VerifierKey) -> None:
        """On disk when this returns, before anything is signed. ``key``: the one that the head is signed with. From any thread."""
        changed = {key_file(self.folder): f"{key}\n".encode()} if key != self.key else {}
        write_together({self._head_file: head.note, **changed})
        self.head, self.key = head, key

    def touch(self) -> None:
        """The log was looked at, and continues."""
        os.utime(self._head_file)

    @property
    def checked(self) -> float:
        """When the log was last found to continue; 0: never."""
        return self._head_file.stat().st_mtime if self._head_file.exists() else 0.0

    def keep(self, state: State) -> None:
        write_whole(self._state_file, json.dumps(asdict(state), sort_keys=True).encode())
        self.state = state

    def stop(self, stop: Stop, evidence: bytes) -> None:
        """Evidence and mark are on disk together when this returns."""
        files = {self.folder / stop.evidence: evidence} if stop.evidence else {}
        state = replace(self.state, stop=stop)
        write_together({**files, self._state_file: json.dumps(asdict(state), sort_keys=True).encode()})
        self.state = state

    # ---------------------------------------------------------------------------------------------------------- reading

    def _read_key(self) -> VerifierKey | None:
        data = self._read(key_file(self.folder), 1000)
        if data is None:
            return None
        try:
            return VerifierKey.parse(data.decode())
        except (FederationError, UnicodeDecodeError) as error:
            raise self._damaged(key_file(self.folder)) from error

    def _read_head(self) -> Head | None:
        data = self._read(self._head_file, MAX_NOTE)
        if data is None:
            return None
        try:
            head, self.key = open_head_under(data, [*([self.key] if self.key is not None else []), *self._named])
            return head
        except FederationError as error:
            raise self._damaged(self._head_file) from error

    def _read_state(self) -> State:
        data = self._read(self._state_file, STATE_LIMIT)
        if data is None:
            return State()
        try:
            document: Any = json.loads(data)
            return State(
                None if document["stop"] is None else Stop(**document["stop"]),
                tuple(Expected(**each) for each in document["expected"]),
                {str(name): (int(size), int(when)) for name, (size, when) in document["seen"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(self._state_file) from error

    @staticmethod
    def _read(path: Path, limit: int) -> bytes | None:
        try:
            with path.open("rb") as stream:
                data = stream.read(limit + 1)
        except FileNotFoundError:
            return None
        if len(data) > limit:
            raise Notebook._damaged(path)
        return data

    @staticmethod
    def _damaged(path: Path) -> InvalidUsage:
        return InvalidUsage(
            f"{path}, which this node keeps as a witness of the public log, is damaged.",
            hint="Restore it, or let the node begin anew as a witness: `concord-node witness reset --yes`.",
        )


def reset(folder: Path, *, new_key: bool) -> None:
    """The lab has looked: the node begins anew with the head that it is shown next, also where the old files are damaged.

    ``new_key``: and with the key that the log has then. Evidence stays.
    """
    for name in ("head", "state.json", *(("log.key",) if new_key else ())):
        (folder / name).unlink(missing_ok=True)


def key_file(folder: Path) -> Path:
    return folder / "log.key"


def checked_key(folder: Path, roll: Roll, named: str) -> VerifierKey:
    """The log's key, which the coordinator names when the node joins: the one that the members' charter names; where it names none,
    the first.

    Raises InvalidIdentity when it is none of this federation's log, another than the charter's, or, without one, another than the
    one that was written down before.
    """
    key, charter = VerifierKey.parse(named), named_key(roll)
    if key.kind != ED25519 or key.name != origin_of(roll.federation):
        raise InvalidIdentity("The key that the coordinator names is not of this federation's log.")
    if charter is not None:
        if key != charter.key:
            raise InvalidIdentity(
                f"The coordinator signs the public log with the key {key}, and the members' charter names {charter.key}.",
                hint="Nothing was stored. Tell your member's officer and the coordinator's operator; only a vote changes the key.",
            )
        return key
    file = key_file(folder)
    if file.exists() and file.read_text().strip() != str(key):
        raise InvalidIdentity(
            "The coordinator names another key for the public log than the one that this node knows.",
            hint="Ask the federation's members which is right. If the new one is: `concord-node witness reset --yes --new-key`.",
        )
    return key
