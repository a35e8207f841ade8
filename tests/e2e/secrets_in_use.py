"""Everything secret that lies in a folder: private keys, tickets, passwords; and where it is told in what was said."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key


def secrets_in(folder: Path) -> dict[str, set[bytes]]:
    """File -> the forms in which what is in it could be told."""
    found: dict[str, set[bytes]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix == ".key" and path.parent.name == "keys":
            found[str(path)] = set(_of_key(path.read_bytes()))
        elif path.is_file() and path.suffix == ".json":
            try:
                document = json.loads(path.read_bytes())
            except ValueError:
                continue
            if isinstance(document, dict) and "token" in document and "keyPem" in document:
                found[str(path)] = {str(document["token"]).encode(), *_of_key(document["keyPem"].encode())}
    return found


def _of_key(data: bytes) -> Iterator[bytes]:
    """A key's file line by line, and the bare key in raw bytes, hex and both kinds of base64."""
    raw = data
    if data.startswith(b"-----BEGIN"):
        lines = data.splitlines()[1:-1]
        yield from (line for line in lines if len(line) >= 40)
        if b"ENCRYPTED" in data:
            return
        key = load_pem_private_key(data, None)
        try:
            raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        except ValueError:  # of a curve that has no raw form
            raw = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    for piece in (raw, raw[:32]):
        yield from (
            piece,
            piece.hex().encode(),
            base64.b64encode(piece).rstrip(b"="),
            base64.urlsafe_b64encode(piece).rstrip(b"="),
        )


def told_in(outputs: Iterable[tuple[str, bytes]], secrets: dict[str, set[bytes]]) -> list[str]:
    """Who told what, as "output: the secret's file"."""
    return [
        f"{name}: {path}"
        for name, data in outputs
        for path, forms in secrets.items()
        if any(form in data for form in forms)
    ]


def logs_in(folder: Path) -> list[tuple[str, bytes]]:
    return [(str(path), path.read_bytes()) for path in sorted(folder.rglob("*.log"))]


def events_in(log: Path) -> list[dict[str, object]]:
    """Every line of a service's log, each one JSON object. Raises ValueError for a line that is none."""
    return [json.loads(line) for line in log.read_text().splitlines()]
