"""Signed documents: a DSSE v1 envelope (pre-authentication encoding of secure-systems-lab/dsse) in one canonical encoding.

The payload is RFC 8785 JSON and is kept as the bytes that were signed. An envelope whose bytes are not exactly what this module
would write (spaces, key order, base64 slack, unsorted or repeated signatures) is refused, so that altering any byte shows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

from federation.errors import InvalidIdentity
from federation.identity.keys import key_id, public_of, verify
from federation.identity.signer import Signer

MAX_BYTES: Final = 4 << 20
MAX_SIGNATURES: Final = 1024
MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Opened:
    document: dict[str, Any]
    payload: bytes
    """the signed bytes, verbatim"""
    signers: tuple[bytes, ...]
    """public keys whose signatures check, sorted"""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the payload: the document's identity."""
        return hashlib.sha256(self.payload).digest()

    def require(self, public: bytes, who: str) -> None:
        """Raises InvalidIdentity unless ``public`` signed."""
        if public not in self.signers:
            raise InvalidIdentity(
                f"The document is not signed by {who}.", hint="Have them sign it, or fetch the document again."
            )


def payload_type(kind: str) -> str:
    return f"application/vnd.concord.{kind}.v1+json"


def canonical(document: dict[str, Any]) -> bytes:
    """RFC 8785 bytes. Raises InvalidIdentity when a value cannot be written so."""
    try:
        return rfc8785.dumps(document)
    except (ValueError, RecursionError) as error:  # CanonicalizationError is one; so is a key that is not Unicode
        raise InvalidIdentity("The document holds a value that canonical JSON cannot hold.") from error


def seal(document: dict[str, Any], kind: str, keys: Sequence[Signer]) -> bytes:
    """The envelope's bytes, signed by each of ``keys`` (none: a draft that others sign with ``add_signature``).

    Raises InvalidIdentity for what would not read back: 1e20 is written as a whole number too large for JSON.
    """
    payload = canonical(document)
    _parse(payload, "payload")
    return _encode(payload, kind, ((key.public, key.sign(pre_authentication(kind, payload))) for key in keys))


def add_signature(envelope: bytes, kind: str, key: Signer) -> bytes:
    """The same document with one more signature; signing twice changes nothing. Raises InvalidIdentity for a bad envelope."""
    payload, signatures = _decode(envelope, kind, MAX_BYTES)
    signatures[key.public] = key.sign(pre_authentication(kind, payload))
    return _encode(payload, kind, signatures.items())


def add_signatures(envelope: bytes, kind: str, other: bytes) -> bytes:
    """``envelope`` with the signatures of ``other``, which holds the very same document. Raises InvalidIdentity."""
    payload, signatures = _decode(envelope, kind, MAX_BYTES)
    same, more = _decode(other, kind, MAX_BYTES)
    if same != payload:
        raise InvalidIdentity("The signatures are of another document.", hint="Sign the document that you were given.")
    return _encode(payload, kind, {**signatures, **more}.items())


def open_envelope(data: bytes, kind: str, limit: int = MAX_BYTES) -> Opened:
    """Checks the encoding and every signature in it. Whose signatures are needed is the caller's question.

    Raises InvalidIdentity when the bytes are too many, not canonical, of another kind, or any signature does not check.
    """
    payload, signatures = _decode(data, kind, limit)
    message = pre_authentication(kind, payload)
    for public, signature in signatures.items():
        verify(public, message, signature)
    return Opened(_parse(payload, "payload"), payload, tuple(sorted(signatures)))


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """PAE(type, body) = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body."""
    name = payload_type(kind).encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def _encode(payload: bytes, kind: str, signatures: Iterable[tuple[bytes, bytes]]) -> bytes:
    entries = [
        {"keyid": key_id(public), "sig": base64.b64encode(signature).decode()}
        for public, signature in sorted(signatures)
    ]
    return canonical(
        {"payload": base64.b64encode(payload).decode(), "payloadType": payload_type(kind), "signatures": entries}
    )


def _decode(data: bytes, kind: str, limit: int) -> tuple[bytes, dict[bytes, bytes]]:
    if len(data) > limit:
        raise InvalidIdentity(f"The signed document is larger than {limit} bytes.")
    envelope = _parse(data, "envelope")
    if set(envelope) != {"payload", "payloadType", "signatures"}:
        raise InvalidIdentity("This is not a signed document.", hint=f"Expected an envelope of kind {kind}.")
    if envelope["payloadType"] != payload_type(kind):
        raise InvalidIdentity(
            f"This is a signed document of another kind ({str(envelope['payloadType'])[:80]}).",
            hint=f"Expected {payload_type(kind)}.",
        )
    entries = envelope["signatures"]
    if not isinstance(entries, list) or len(entries) > MAX_SIGNATURES:
        raise InvalidIdentity("The signatures of the document are malformed.")
    payload = _unbase64(envelope["payload"])
    signatures: dict[bytes, bytes] = {}
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"}:
            raise InvalidIdentity("A signature of the document is malformed.")
        signatures[public_of(entry["keyid"])] = _unbase64(entry["sig"])
    if _encode(payload, kind, signatures.items()) != data:
        raise InvalidIdentity(
            "The signed document is not in its one canonical encoding.",
            hint="It was altered or re-formatted after signing; fetch the original bytes.",
        )
    return payload, signatures


def _parse(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidIdentity(f"The {what} of the signed document is not JSON.") from error
    if not isinstance(document, dict) or _depth(document) > MAX_DEPTH:
        raise InvalidIdentity(f"The {what} of the signed document is not an object of reasonable depth.")
    if canonical(document) != data:
        raise InvalidIdentity(f"The {what} of the signed document is not canonical JSON (RFC 8785).")
    return document


def _depth(value: object) -> int:
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        depth += 1
        layer = [
            child
            for item in layer
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _unbase64(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidIdentity("A field of the signed document is not base64.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidIdentity("A field of the signed document is not base64.") from error
