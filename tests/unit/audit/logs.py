"""A log in memory, made by the plain definitions of ``tests.plain.log``."""

from dataclasses import dataclass, field

from federation.audit.checkpoint import Checkpoint, cosign, log_key, open_head, origin_of, sign_head, witness_key
from federation.audit.entry import Entry, entry_of
from federation.audit.proof import Inclusion
from federation.audit.tree import consistency_path
from federation.errors import NotFound
from federation.identity.keys import SigningKey
from tests.plain import log as plain

JOB = "ab" * 32
NOW = 1_800_000_000


def some_entries(count: int, salt: bytes = b"") -> list[bytes]:
    digests = [(b"%d" % number + salt).ljust(32, b"\0") for number in range(count)]
    return [
        entry_of("roster", f"{JOB} {number}", digest, NOW + number).encode() for number, digest in enumerate(digests)
    ]


@dataclass
class MadeLog:
    entries: list[bytes]
    federation: str = "atlas"
    signing: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def key(self):
        return log_key(self.federation, self.signing.public)

    def checkpoint(self, size=None):
        entries = self.entries[:size]
        return Checkpoint(origin_of(self.federation), len(entries), plain.root(entries))

    def note(self, size=None, time=NOW):
        return sign_head(self.checkpoint(size), self.signing, time)

    def head(self, size=None, time=NOW):
        return open_head(self.note(size, time), self.key)

    def path(self, old, new=None):
        entries = self.entries[:new]
        return consistency_path(
            old, len(entries), lambda height, place: plain.root(entries[place << height : (place + 1) << height])
        )

    def files(self, size=None, note=None):
        return {"checkpoint": note or self.note(size), **plain.folder(self.entries[:size])}

    def inclusion(self, index, size=None, note=None):
        entries = self.entries[:size]
        return Inclusion(
            entries[index], index, len(entries), tuple(plain.inclusion(entries, index)), note or self.note(size)
        )


@dataclass
class MadeWitness:
    member: str
    signing: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def key(self):
        return witness_key("atlas", self.member, f"{self.member}-1", self.signing.public)

    def line(self, checkpoint, time=NOW):
        return cosign(checkpoint, self.key.name, self.signing, time)


def fetching(files):
    def fetch(path, limit):
        if path not in files:
            raise NotFound(f"no {path}")
        assert len(files[path]) <= limit
        return files[path]

    return fetch


__all__ = ["Entry", "MadeLog", "MadeWitness", "fetching", "some_entries"]
