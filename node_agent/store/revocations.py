"""The consents that this lab took back, or that ended: one signed file each, beside the journal, for ever.

A file that is there decides, whatever the journal holds: it is written whole and fsynced before anything else is done, it can be
written while another process holds the journal, and a journal that is put back from a copy forgets none of it. What cannot be read
counts as revoked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node_agent.store.files import private_folder, write_whole

ENVELOPE: Final = ".json"
NOTED: Final = ".noted"
WORDS: Final = ".txt"
LIMIT: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Revocations:
    folder: Path

    def put(self, job: bytes, envelope: bytes, words: str = "") -> bytes:
        """On disk when this returns; the first one stands, and is returned. ``words``: why, for the lab alone. Raises OSError."""
        private_folder(self.folder)
        if (standing := self.of(job)) is not None:
            return standing
        if words:
            write_whole(self._path(job, WORDS), words.encode())
        write_whole(self._path(job, ENVELOPE), envelope)
        return envelope

    def of(self, job: bytes) -> bytes | None:
        """The signed revocation; None where there is none. Raises OSError: whoever asks must take that as revoked."""
        try:
            with self._path(job, ENVELOPE).open("rb") as stream:
                return stream.read(LIMIT)
        except FileNotFoundError:
            return None

    def revoked(self, job: bytes) -> bool:
        try:
            return self.of(job) is not None
        except OSError:
            return True

    def words(self, job: bytes) -> str:
        try:
            return self._path(job, WORDS).read_bytes()[:LIMIT].decode(errors="replace")
        except FileNotFoundError:
            return ""

    def note(self, job: bytes) -> None:
        """The coordinator says that it has it."""
        if self.revoked(job):
            write_whole(self._path(job, NOTED), b"")

    def noted(self, job: bytes) -> bool:
        return self._path(job, NOTED).exists()

    def unnoted(self) -> tuple[tuple[bytes, bytes], ...]:
        """(job, envelope) of those that the coordinator has not confirmed, by job."""
        if not self.folder.is_dir():
            return ()
        found = []
        for path in sorted(self.folder.glob(f"*{ENVELOPE}")):
            if path.name.startswith("."):
                continue
            job = bytes.fromhex(path.stem)
            if not self.noted(job) and (envelope := self.of(job)) is not None:
                found.append((job, envelope))
        return tuple(found)

    def _path(self, job: bytes, suffix: str) -> Path:
        return self.folder / f"{job.hex()}{suffix}"
