"""What the reader of a release knows of recalls: files that members showed, and a copy of the public log, computed again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from coordinator.client.files import about, read_file
from federation.audit.checkpoint import VerifierKey
from federation.audit.entry import Entry
from federation.audit.verify import verify_log
from federation.errors import InvalidUsage, NotFound
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
        return Known(shown)
    in_log: list[tuple[bytes, str]] = []

    def note(_number: int, entry: Entry) -> None:
        if entry.kind == "recall" and "release" in entry.fields:
            when = datetime.fromtimestamp(entry.time / 1000, UTC)
            in_log.append((bytes.fromhex(entry.fields["release"]), f"{when:%Y-%m-%d %H:%M} UTC"))

    def fetch(path: str, limit: int) -> bytes:
        file = log / path
        if not file.is_file():
            raise NotFound(f"The copy of the log lacks {path}.", hint="Fetch it again: concord audit fetch.")
        with file.open("rb") as stream:
            return stream.read(limit + 1)

    key_file = log_key or log / KEY
    with about(key_file):
        key = VerifierKey.parse(read_file(key_file, what="The key of the log").decode(errors="replace"))
    head = verify_log(fetch, key, visit=note).head
    return Known(
        shown,
        tuple(in_log),
        f"as of the head of {head.size} entries of {key.name}, which was computed again from its copy"
        + ("" if log_key is not None else f"; its key came with the copy: {key}"),
    )
