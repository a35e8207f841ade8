"""Where the public log is read from: a folder, an address that serves C2SP tlog-tiles, or the coordinator of the home."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Final

from coordinator.client.channel import UNARY_SECONDS, spoken_errors
from coordinator.client.files import read_file
from coordinator.client.home import Home
from coordinator.client.log_keys import KEY_FILE, Trusted, log_name, trusted_key
from coordinator.client.sdk import Federation
from federation.audit.checkpoint import Head, VerifierKey, log_key, origin_of, witness_key
from federation.audit.proof import Inclusion
from federation.audit.verify import Fetch
from federation.errors import FederationError, InvalidUsage, NotFound, Unavailable, VerificationFailed
from federation.identity.credential import verify_credential
from federation.identity.roll import Roll
from federation.parsing import parsed
from federation.v1 import audit_pb2, audit_pb2_grpc

HTTP_SECONDS: Final = 30.0
WITNESSES_FILE: Final = "witnesses.json"
WITNESSES_LIMIT: Final = 16 << 20
DOCUMENT_LIMIT: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """``name`` for people; ``credentials``: of the nodes that may have cosigned, unchecked."""

    name: str
    fetch: Fetch
    credentials: Callable[[], tuple[bytes, ...]]
    roll: bytes | None
    key: str
    """the log's key as the source names it; empty: it does not"""


@contextmanager
def opened(folder: Path | None, url: str, home: Path) -> Iterator[Source]:
    """Of a folder or an address when one is named; else the coordinator that the home has logged in to."""
    if folder is not None and url:
        raise InvalidUsage("A log is read from a folder or from an address, not from both.", hint="Name one.")
    if folder is not None:
        yield from_folder(folder)
    elif url:
        yield from_address(url)
    else:
        with Federation.connect(home) as federation:
            yield from_coordinator(federation)


def from_folder(folder: Path) -> Source:
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", hint="Make one with `concord audit fetch`.")

    def fetch(path: str, limit: int) -> bytes:
        return read_file(folder / path, limit, what="The log's file")

    def credentials() -> tuple[bytes, ...]:
        file = folder / WITNESSES_FILE
        if not file.exists():
            return ()
        try:
            document = json.loads(read_file(file, WITNESSES_LIMIT))
            return tuple(str(each).encode() for each in document["credentials"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise VerificationFailed(f"{file} is damaged.", hint="Fetch the log again.") from None

    roll, key = folder / "roll.json", folder / KEY_FILE
    return Source(
        str(folder),
        fetch,
        credentials,
        read_file(roll) if roll.exists() else None,
        read_file(key, 1000).decode(errors="replace").strip() if key.exists() else "",
    )


def from_address(url: str) -> Source:
    """``url``: the log's prefix, such as https://concord.example.org/log."""
    if not url.startswith(("http://", "https://")):
        raise InvalidUsage(f"{url[:100]!r} is no address of a log.", hint="It begins with https:// and ends with /log.")
    prefix = url.rstrip("/")

    def fetch(path: str, limit: int) -> bytes:
        try:
            with urllib.request.urlopen(f"{prefix}/{path}", timeout=HTTP_SECONDS) as answer:  # noqa: S310 - http or https, above
                data = bytes(answer.read(limit + 1))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_FOUND:
                raise NotFound(f"{prefix} has no {path}.", hint="Is it the address of a log?") from None
            raise Unavailable(f"{prefix} answers {error.code} for {path}.", hint="Try again later.") from None
        except (OSError, ValueError, HTTPException) as error:
            raise Unavailable(f"{prefix} cannot be read: {error}.", hint="Check the address.") from error
        if len(data) > limit:
            raise VerificationFailed(f"{path} is larger than {limit:,} bytes.", hint="This is no log.")
        return data

    return Source(prefix, fetch, lambda: (), None, "")


def from_coordinator(federation: Federation) -> Source:
    stub = audit_pb2_grpc.AuditLogStub(federation.channel)

    def fetch(path: str, limit: int) -> bytes:
        with spoken_errors(federation.route):
            data = bytes(stub.Part(audit_pb2.PartQuery(path=path), timeout=UNARY_SECONDS).data)
        if len(data) > limit:
            raise VerificationFailed(f"{path} is larger than {limit:,} bytes.", hint="Tell the operator.")
        return data

    def credentials() -> tuple[bytes, ...]:
        with spoken_errors(federation.route):
            found = stub.Witnesses(audit_pb2.WitnessesQuery(), timeout=UNARY_SECONDS)
            return tuple(each.credential for each, _ in zip(found, range(10_000), strict=False))

    with spoken_errors(federation.route):
        named = stub.Head(audit_pb2.HeadQuery(), timeout=UNARY_SECONDS).key
    roll = federation.home.roll()
    return Source("the coordinator", fetch, credentials, None if roll is None else roll.envelope, named)


def prove(federation: Federation, document: bytes, number: int) -> Inclusion:
    """Raises NotFound."""
    stub = audit_pb2_grpc.AuditLogStub(federation.channel)
    with spoken_errors(federation.route):
        reply = parsed(stub.Prove(audit_pb2.ProofQuery(document=document, number=number), timeout=UNARY_SECONDS))
    return Inclusion(reply.entry, reply.number, reply.size, tuple(reply.path), reply.note)


def document(federation: Federation, digest: bytes) -> bytes:
    """A document that an entry names. Raises NotFound, or VerificationFailed for other bytes."""
    stub = audit_pb2_grpc.AuditLogStub(federation.channel)
    data = bytearray()
    with spoken_errors(federation.route):
        for part in stub.Document(audit_pb2.DocumentQuery(digest=digest), timeout=UNARY_SECONDS):
            data += part.data
            if len(data) > DOCUMENT_LIMIT:
                raise VerificationFailed("The document is too large.", hint="Tell the operator.")
    if hashlib.sha256(data).digest() != digest:
        raise VerificationFailed("The coordinator gave another document than was asked for.", hint="Tell the members.")
    return bytes(data)


# ---------------------------------------------------------------------------------------------------------------------- keys


def trusted_roll(path: Path | None, source: Source, home: Home, given: str) -> Roll | None:
    """Whose charter and officers count: the roll that the reader names; else the one of their home, if it is of this federation;
    else the one that came with a copy. ``given``: the key that the reader names; the home may know nothing of that log."""
    if path is not None:
        return Roll.open(read_file(path, what="The roll"))
    came, own = None if source.roll is None else Roll.open(source.roll), home.roll()
    if own is None or (came is not None and came.federation != own.federation):
        return came
    foreign = given and log_name(given) != origin_of(own.federation)
    return came if foreign else own


def trusted(given: str, source: Source, home: Home, roll: Roll | None) -> Trusted:
    """The log's key, and who names it."""
    return trusted_key(given, roll, home.path / KEY_FILE, (source.name, source.key))


def witness_keys(source: Source, roll: Roll | None, key: VerifierKey) -> list[VerifierKey]:
    """Of the nodes that an officer on the roll vouches for; none without a roll."""
    if roll is None or key != log_key(roll.federation, key.public):
        return []
    found = []
    for envelope in source.credentials():
        try:
            node = verify_credential(envelope, roll, None)
        except FederationError:
            continue  # of nobody on this roll
        found.append(witness_key(roll.federation, node.member, node.node, node.identity_key))
    return found


def older_head(path: Path | None, trust: Trusted) -> Head | None:
    """A head that somebody kept: a `checkpoint` or a node's `head`. It may be from before the members named another key."""
    return None if path is None else trust.open_older(read_file(path, what="The head"))
