"""Page: "Convictions": proofs that a member lied, as the files that travel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.plain.setup import Said


def _file(document: dict[str, Any]) -> bytes:
    """RFC 8785, for documents of ASCII and small integers."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def two_statements(key: bytes, first: tuple[bytes, bytes], second: tuple[bytes, bytes]) -> bytes:
    """Each: the transcript, and its signature."""
    return _file(
        {
            "format": "concord/conviction/v1",
            "identityKey": key.hex(),
            "statements": [{"signed": text.hex(), "signature": signature.hex()} for text, signature in (first, second)],
        }
    )


def false_seed(
    key: bytes, upload: Said, peer: int, reveal: Said | None = None, shares: Sequence[tuple[int, bytes]] = ()
) -> bytes:
    """``shares``: (holder, share)."""
    document: dict[str, Any] = {
        "format": "concord/false-seed/v1",
        "identityKey": key.hex(),
        "peer": peer,
        "upload": {
            "index": upload["index"],
            "context": upload["context"].hex(),
            "root": upload["root"].hex(),
            "boxes": [[box["holder"], box["ciphertext"].hex()] for box in upload["boxes"]],
            "edges": upload["edges"],
            "secretHashes": [each.hex() for each in upload["secret_hashes"]],
            "shareHashes": [each.hex() for each in upload["share_hashes"]],
            "signature": upload["signature"].hex(),
        },
        "reveal": None,
        "shares": [[holder, share.hex()] for holder, share in shares],
    }
    if reveal is not None:
        document["reveal"] = {
            "index": reveal["index"],
            "context": reveal["context"].hex(),
            "selfSeed": reveal["self_seed"].hex(),
            "edges": [[each["peer"], each["seed"].hex()] for each in reveal["edges"]],
            "signature": reveal["signature"].hex(),
        }
    return _file(document)
