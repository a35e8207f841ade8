"""The release as an in-toto Statement (v1) in a DSSE envelope: digests of all its files, and what it is, for tools that do not
know our formats. (https://github.com/in-toto/attestation, spec/v1; https://github.com/secure-systems-lab/dsse.)

It is signed by whoever put the files together, as the listing is, and proves as little by that. A verifier makes it again from what
the members signed, and it must come out the same byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from federation.errors import VerificationFailed
from federation.identity.envelope import canonical
from federation.identity.keys import SigningKey, key_id, verify

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
PREDICATE_TYPE: Final = "urn:x-concord:release:v1"
"""docs/protocol/release.md, "Statement": a predicate of our own, since SLSA's knows one builder and none here is trusted"""


def statement_of(digests: Mapping[str, bytes], predicate: Mapping[str, Any]) -> bytes:
    """``digests``: SHA-256 of each file, by path."""
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": path, "digest": {"sha256": digests[path].hex()}} for path in sorted(digests)],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }
    return canonical(document)


def seal_statement(payload: bytes, key: SigningKey) -> bytes:
    return _envelope(payload, key.public, key.sign(_pre_authentication(payload)))


def check_statement(data: bytes, payload: bytes, signer: bytes) -> None:
    """Raises VerificationFailed unless ``data`` is this statement in its one encoding, signed by ``signer`` and nobody else."""
    try:
        signature = base64.b64decode(json.loads(data)["signatures"][0]["sig"], validate=True)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, binascii.Error) as error:
        raise VerificationFailed("The statement is no DSSE envelope.") from error
    if _envelope(payload, signer, signature) != data:
        raise VerificationFailed("The statement says something else than the verified files, or by another key.")
    verify(signer, _pre_authentication(payload), signature)


def _envelope(payload: bytes, public: bytes, signature: bytes) -> bytes:
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key_id(public), "sig": base64.b64encode(signature).decode()}],
        }
    )


def _pre_authentication(payload: bytes) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
