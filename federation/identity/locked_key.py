"""An identity key in a file that a passphrase opens: scrypt (RFC 7914) makes a key of it, ChaCha20-Poly1305 (RFC 8439) seals.

Canonical JSON. The public key stands in clear, so that people can tell files apart without a passphrase; it is authenticated.
"""

from __future__ import annotations

import json
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from federation.errors import InvalidIdentity
from federation.identity.envelope import canonical
from federation.identity.fields import exact, hexadecimal, text, whole
from federation.identity.keys import SigningKey, key_id, public_of

FORMAT: Final = "concord/locked-key/v1"
BEGINS: Final = b'{"box":'
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
LEAST_COST: Final = 14
COST: Final = 17
"""scrypt's N is 2 to this, with r = 8 and p = 1: 128 MiB, and a third of a second"""
MOST_COST: Final = 20
SHORTEST: Final = 8
"""letters of a passphrase"""
PEM_LIMIT: Final = 4096


def lock(key: SigningKey, passphrase: str, salt: bytes, nonce: bytes, cost: int = COST) -> bytes:
    """The file. ``salt`` and ``nonce``: fresh from the system's randomness. Raises InvalidIdentity for a short passphrase."""
    if len(passphrase) < SHORTEST:
        raise InvalidIdentity(f"The passphrase is shorter than {SHORTEST} letters.", hint="Use several words.")
    head = {"format": FORMAT, "key": key_id(key.public), "cost": cost, "salt": salt.hex(), "nonce": nonce.hex()}
    box = _cipher(passphrase, salt, cost).encrypt(nonce, key.to_pem(), canonical(head))
    return canonical({**head, "box": box.hex()})


def is_locked(data: bytes) -> bool:
    return data.startswith(BEGINS)


def public_part(data: bytes) -> bytes:
    """The key that the file says it holds. Raises InvalidIdentity."""
    return public_of(_read(data)["key"])


def unlock(data: bytes, passphrase: str) -> SigningKey:
    """Raises InvalidIdentity for another passphrase, or a file that was altered."""
    document = dict(_read(data))
    box = bytes.fromhex(text(document.pop("box"), "key file's box", 2 * PEM_LIMIT))
    salt = hexadecimal(document["salt"], "key file's salt", SALT_BYTES)
    nonce = hexadecimal(document["nonce"], "key file's nonce", NONCE_BYTES)
    try:
        pem = _cipher(passphrase, salt, document["cost"]).decrypt(nonce, box, canonical(document))
    except InvalidTag:
        raise InvalidIdentity(
            "The passphrase does not open the key file.", hint="Try again; if you are sure of it, the file was altered."
        ) from None
    key = SigningKey.from_pem(pem)
    if key_id(key.public) != document["key"]:
        raise InvalidIdentity("The key file holds another key than it says.", hint="Restore it from a backup.")
    return key


def _cipher(passphrase: str, salt: bytes, cost: int) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=1 << cost, r=8, p=1).derive(passphrase.encode()))


def _read(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or canonical(document) != data:
            raise ValueError
        bytes.fromhex(document["box"])
    except (ValueError, RecursionError, KeyError, TypeError):
        raise InvalidIdentity("The key file is damaged.", hint="Restore it from a backup.") from None
    read = exact(document, "key file", "format", "key", "cost", "salt", "nonce", "box")
    if read["format"] != FORMAT:
        raise InvalidIdentity("The key file is of another format.", hint="It may come from a newer version of Concord.")
    whole(read["cost"], "key file's cost", LEAST_COST, MOST_COST)
    return document
