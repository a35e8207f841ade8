"""What the reader of a release knows of recalls: files that members showed, and a copy of the public log, computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coordinator.client.files import about, read_file
from federation.audit.checkpoint import VerifierKey
from federation.audit.entry import Entry
from federation.audit.tree import leaf_hash
from federation.audit.verify import verify_log
from federation.errors import InvalidUsage, NotFound
from federation.releases.logged import LogCopy, when
from federation.releases.recall import MAX_RECALL
from federation.releases.verify import Known

KEY: str = "log.key"
MOST: int = 1000


def known_of(recalls: Sequence[Path], log: Path | None, log_key: Path | None) -> Known:
    """``recalls``: files, or folders of them. ``log``: a folder of the log's files, as C2SP tlog-tiles names them; ``log_key``: its
    key, else the file log.key in it.

    Raises VerificationFailed for a log that does not check, InvalidUsage and NotFound for what is not there.
    """
    files = [file for path in recalls for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    if len(files) > MOST:
        raise InvalidUsage(f"{len(files)} recalls were given, and {MOST} are the most.")
    shown = tuple(read_file(file, what="The recall", limit=MAX_RECALL) for file in files)
    if log is None:
        return Known(shown, log_key=None if log_key is None else _read_key(log_key))
    in_log: list[tuple[bytes, str]] = []
    revoked: list[tuple[bytes, str, str]] = []
    leaves = bytearray()

    def note(_number: int, entry: Entry) -> None:
        leaves.extend(leaf_hash(entry.encode()))
        if entry.kind == "recall" and "release" in entry.fields:
            in_log.append((bytes.fromhex(entry.fields["release"]), when(entry)))
        if entry.kind == "revocation":
            revoked.append((bytes.fromhex(entry.fields["job"]), entry.fields["member"], when(entry)))

    def fetch(path: str, limit: int) -> bytes:
        file = log / path
        if not file.is_file():
            raise NotFound(f"The copy of the log lacks {path}.", hint="Fetch it again: concord audit fetch.")
        with file.open("rb") as stream:
            return stream.read(limit + 1)

    key = _read_key(log_key or log / KEY)
    head = verify_log(fetch, key, visit=note).head
    return Known(
        shown,
        tuple(in_log),
        tuple(revoked),
        f"as of the head of {head.size} entries of {key.name}, which was computed again from its copy"
        + ("" if log_key is not None else f"; its key came with the copy: {key}"),
        None if log_key is None else key,
        LogCopy(key, head.size, bytes(leaves)),
    )


def _read_key(path: Path) -> VerifierKey:
    """Raises InvalidIdentity or NotFound."""
    with about(path):
        return VerifierKey.parse(read_file(path, what="The key of the log").decode(errors="replace"))
