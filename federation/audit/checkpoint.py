"""Signed heads: C2SP tlog-checkpoint in a signed-note, with Ed25519 signatures and timestamped cosignatures (tlog-cosignature).

A log signs each head twice with one key: as a note (type 0x01), and with the time (type 0x04). The second is the log's statement
that at that time it had no larger tree; it makes a rollback provable. Witnesses sign with type 0x04 and keys of their own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from federation.audit.tree import HASH_BYTES, MAX_SIZE
from federation.errors import InvalidIdentity, VerificationFailed
from federation.identity.keys import PUBLIC_BYTES, SIGNATURE_BYTES, verify

ED25519: Final = 1
COSIGNATURE: Final = 4
MAX_NOTE: Final = 1 << 18
MAX_SIGNATURES: Final = 1024
MAX_SECONDS: Final = (1 << 63) - 1
ID_BYTES: Final = 4
_NAME: Final = re.compile(r"[!-*,-~]{1,200}")
_LINE: Final = re.compile(r"— ([!-*,-~]{1,200}) ([A-Za-z0-9+/]{4,8000}={0,2})")
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Signer(Protocol):
    @property
    def public(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key that notes are checked with: a name, the type of its signatures, and an Ed25519 public key."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """SHA-256(name || 0x0A || type || public key)[:4]"""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:ID_BYTES]

    def __str__(self) -> str:
        """name+hex(id)+base64(type || public key), as signed-note writes it."""
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    @staticmethod
    def parse(text: str) -> VerifierKey:
        """Raises InvalidIdentity."""
        name, _, rest = text.strip().partition("+")
        identifier, _, encoded = rest.partition("+")
        try:
            data = _unbase64(encoded)
        except VerificationFailed:
            data = b""
        if len(data) == 1 + PUBLIC_BYTES and data[0] in {ED25519, COSIGNATURE} and _NAME.fullmatch(name):
            key = VerifierKey(name, data[0], data[1:])
            if key.id.hex() == identifier:
                return key
        raise InvalidIdentity(
            f"{text[:80]!r} is no key of a log.", hint="It is one line: name+8 hex digits+base64, as log.key has it."
        )


def origin_of(federation: str) -> str:
    return f"concord/{federation}"


def log_key(federation: str, public: bytes) -> VerifierKey:
    return VerifierKey(origin_of(federation), ED25519, public)


def witness_key(federation: str, member: str, node: str, identity: bytes) -> VerifierKey:
    """``identity``: the node's identity key, which its credential names."""
    return VerifierKey(f"{origin_of(federation)}/{member}/{node}", COSIGNATURE, identity)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n".encode()

    @staticmethod
    def parse(text: bytes) -> Checkpoint:
        """Raises VerificationFailed; extension lines, which no log of ours writes, too."""
        lines = text.decode().split("\n")
        if len(lines) != 4 or lines[3] or not _NAME.fullmatch(lines[0]) or not _WHOLE.fullmatch(lines[1]):
            raise VerificationFailed("The text of a head is not an origin, a size and a root.")
        found = Checkpoint(lines[0], int(lines[1]), _unbase64(lines[2]))
        if len(found.root) != HASH_BYTES or found.size > MAX_SIZE or found.text != text:
            raise VerificationFailed("The text of a head is not in its one canonical form.")
        return found


@dataclass(frozen=True, slots=True)
class NoteSignature:
    name: str
    id: bytes
    data: bytes

    @property
    def line(self) -> bytes:
        return f"— {self.name} {_base64(self.id + self.data)}\n".encode()

    @staticmethod
    def parse(line: bytes) -> NoteSignature:
        """Raises VerificationFailed."""
        try:
            match = _LINE.fullmatch(line.decode().removesuffix("\n"))
        except UnicodeDecodeError:
            match = None
        if match is not None:
            data = _unbase64(match[2])
            if len(data) > ID_BYTES:
                return NoteSignature(match[1], data[:ID_BYTES], data[ID_BYTES:])
        raise VerificationFailed("A signature line of a note is malformed.")


@dataclass(frozen=True, slots=True)
class Note:
    text: bytes
    signatures: tuple[NoteSignature, ...]

    @staticmethod
    def parse(data: bytes) -> Note:
        """Raises VerificationFailed."""
        text, blank, lines = data.rpartition(b"\n\n")
        try:
            fine = all(letter >= " " or letter == "\n" for letter in data.decode())
        except UnicodeDecodeError:
            fine = False
        parts = lines.split(b"\n")
        if not fine or not blank or not text or len(data) > MAX_NOTE or parts.pop() or not parts:
            raise VerificationFailed("This is no signed note.", hint="A head is text, an empty line, and signatures.")
        if len(parts) > MAX_SIGNATURES:
            raise VerificationFailed(f"A head has more than {MAX_SIGNATURES} signatures.")
        return Note(text + b"\n", tuple(NoteSignature.parse(line) for line in parts))

    def signed(self, key: VerifierKey) -> int | None:
        """The time (seconds since 1970) of a type 0x04 signature, 0 for type 0x01; None when ``key`` has not signed.

        Raises VerificationFailed for a signature under this key's name and id that does not check.
        """
        for signature in self.signatures:
            if (signature.name, signature.id) == (key.name, key.id):
                return _check(self.text, signature, key)
        return None


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint that its log has signed."""

    checkpoint: Checkpoint
    time: int
    """seconds since 1970, as the log says"""
    note: bytes
    """verbatim, with the cosignatures that came along"""

    @property
    def size(self) -> int:
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        return self.checkpoint.root


def sign_head(checkpoint: Checkpoint, key: Signer, time: int) -> bytes:
    """The note as the log publishes it. ``time``: seconds since 1970."""
    plain = VerifierKey(checkpoint.origin, ED25519, key.public)
    first = NoteSignature(plain.name, plain.id, key.sign(checkpoint.text))
    return checkpoint.text + b"\n" + first.line + cosign(checkpoint, checkpoint.origin, key, time)


def open_head(note: bytes, key: VerifierKey) -> Head:
    """``key`` is the log's, of type 0x01. Raises VerificationFailed unless both of the log's signatures are there and good."""
    opened = Note.parse(note)
    checkpoint = Checkpoint.parse(opened.text)
    if checkpoint.origin != key.name:
        raise VerificationFailed(f"The head is of the log {checkpoint.origin}, and not of {key.name}.")
    time = opened.signed(VerifierKey(key.name, COSIGNATURE, key.public))
    if opened.signed(key) is None or time is None:
        raise VerificationFailed(
            f"The head is not signed by {key.name} with the key {key.id.hex()}.",
            hint="It may be another log, or the log's key was changed: ask the federation's members which key is right.",
        )
    return Head(checkpoint, time, note)


def dated(note: bytes, name: str) -> int:
    """The time of the signature that ``name`` made with its time, unchecked: of a note from one's own disk.

    Raises VerificationFailed when there is none.
    """
    for signature in Note.parse(note).signatures:
        if signature.name == name and len(signature.data) == 8 + SIGNATURE_BYTES:
            return int.from_bytes(signature.data[:8], "big")
    raise VerificationFailed(f"The head bears no signature of {name} with a time.")


def cosign(checkpoint: Checkpoint, name: str, key: Signer, time: int) -> bytes:
    """The signature line of a witness, or of the log itself. ``time``: seconds since 1970."""
    signer = VerifierKey(name, COSIGNATURE, key.public)
    data = time.to_bytes(8, "big") + key.sign(_cosigned(checkpoint.text, time))
    return NoteSignature(name, signer.id, data).line


def check_cosignature(line: bytes, checkpoint: Checkpoint, key: VerifierKey) -> int:
    """When it was made. Raises VerificationFailed unless ``key`` (type 0x04) has cosigned this checkpoint."""
    signature = NoteSignature.parse(line)
    if (signature.name, signature.id) != (key.name, key.id) or signature.line != line:
        raise VerificationFailed(f"The cosignature is not by {key.name}.")
    return _check(checkpoint.text, signature, key)


def cosigned_by(note: bytes, witnesses: Iterable[VerifierKey]) -> Mapping[str, int]:
    """Name -> time of each of these witnesses that has cosigned. Raises VerificationFailed for one that does not check."""
    opened = Note.parse(note)
    found = ((key.name, opened.signed(key)) for key in witnesses)
    return {name: time for name, time in found if time is not None}


def _check(text: bytes, signature: NoteSignature, key: VerifierKey) -> int:
    data, time = signature.data, 0
    message = text
    if key.kind == COSIGNATURE:
        time, data = int.from_bytes(data[:8], "big"), data[8:]
        message = _cosigned(text, time)
    try:
        if len(data) != SIGNATURE_BYTES or time > MAX_SECONDS:
            raise InvalidIdentity("The signature has the wrong length.")
        verify(key.public, message, data)
    except InvalidIdentity:
        raise VerificationFailed(
            f"The signature of {key.name} on a head does not check.", hint="The head was altered: get it again."
        ) from None
    return time


def _cosigned(text: bytes, time: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time + text


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    """Raises VerificationFailed for what is not the one encoding."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or _base64(data) != text:
        raise VerificationFailed("A field of a note is not base64.")
    return data
