"""`concord-coordinator evidence`: the signed bytes that show what members did wrong, and which of them convict by themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coordinator.settings import write_private
from coordinator.store.database import Database
from federation.errors import VerificationFailed
from federation.identity.fields import moment_text
from federation.secagg.certificate import Ed25519Verifier
from federation.secagg.proof import read


@dataclass(frozen=True, slots=True)
class Shown:
    time: str
    job: str
    member: str
    check: str
    signed: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.signed).hexdigest()

    @property
    def convicts(self) -> bool:
        """Whether it is a proof that anybody can check with these bytes alone: two statements of one key, or a false seed."""
        try:
            read(self.signed).check(Ed25519Verifier())
        except VerificationFailed:
            return False
        return True


def shown(database: Database) -> list[Shown]:
    with database.transaction() as change:
        rows = list(change.misconduct())
    pieces = []
    for time, subject, signed in rows:
        job, member, check = subject.split(" ")
        pieces.append(Shown(moment_text(datetime.fromtimestamp(time, UTC)), job, member, check, signed))
    return pieces


def write(pieces: list[Shown], folder: Path) -> None:
    """One private file for each, named by its digest; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for piece in pieces:
        path = folder / (f"{piece.digest}.json" if piece.convicts else f"{piece.digest}.signed")
        if not path.exists():
            write_private(path, piece.signed)
