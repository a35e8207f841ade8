"""A mirror of releases: verified folders over plain HTTP, for everybody. It reads and serves, and takes nothing in.

Each folder is verified before it is listed. A recall that lies among the recalls ends the serving of its release at once: they are
read again for each request. Whoever fetches verifies again: a mirror is trusted with nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from federation.errors import FederationError, InvalidUsage
from federation.identity.roll import Roll
from federation.releases.listing import CONFIG, PIECE, read_folder
from federation.releases.recall import MAX_RECALL, read_recall
from federation.releases.verify import verify_folder

SECONDS = 30.0
"""for one request of a peer that stands still"""


@dataclass(frozen=True, slots=True)
class Held:
    folder: Path
    files: frozenset[str]
    subject: bytes
    roll: Roll


@dataclass(slots=True)
class Mirror:
    """``folder``: one folder for each release; ``recalls``: a folder of recalls, which may grow."""

    folder: Path
    recalls: Path | None
    trusted_roll: bytes
    releases: dict[str, Held] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """why a folder is not served, by name"""

    def load(self) -> None:
        """Verifies every folder. Raises InvalidUsage when there is none."""
        folders = sorted(item for item in self.folder.iterdir() if item.is_dir() and not item.is_symlink())
        if not folders:
            raise InvalidUsage(
                f"There is no release in {self.folder}.", hint="Put folders of `concord release fetch` into it."
            )
        roll = Roll.open(self.trusted_roll)
        for item in folders:
            report = verify_folder(item, self.trusted_roll)
            if not report.ok:
                self.refused[item.name] = next(
                    f"{check.name}: {check.detail}" for check in report.checks if not check.ok
                )
                continue
            subject = bytes.fromhex(json.loads((item / CONFIG).read_bytes())["release"]["subject"])
            self.releases[item.name] = Held(item, frozenset(read_folder(item)), subject, roll)

    def recalled(self, held: Held) -> str:
        """By whom and when; a recall that cannot be checked ends the serving of everything."""
        for file in sorted(self.recalls.iterdir()) if self.recalls is not None else ():
            try:
                with file.open("rb") as stream:
                    recall = read_recall(stream.read(MAX_RECALL + 1), held.roll)
            except (FederationError, OSError) as error:
                return f"not to be told: {file.name} does not check ({error})"
            if recall.subject == held.subject:
                return recall.words
        return ""

    def server(self, address: tuple[str, int], note: Callable[[str], None]) -> ThreadingHTTPServer:
        return ThreadingHTTPServer(address, partial(_Requests, self, note))


class _Requests(BaseHTTPRequestHandler):
    timeout = SECONDS
    protocol_version = "HTTP/1.0"
    server_version = "concord-mirror"
    sys_version = ""

    def __init__(self, mirror: Mirror, note: Callable[[str], None], *arguments: object) -> None:
        self._mirror, self._note = mirror, note
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name, _, path = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        if not name:
            self._list()
            return
        held = self._mirror.releases.get(name)
        if held is None or (path and path not in held.files):
            self._say(HTTPStatus.NOT_FOUND, {"error": "there is no such release or file"})
        elif recalled := self._mirror.recalled(held):
            self._say(HTTPStatus.GONE, {"error": f"this release was {recalled}"})
        elif not path:
            self._say(HTTPStatus.OK, {"release": held.subject.hex(), "files": sorted(held.files)})
        else:
            self._file(held.folder / path)

    def _list(self) -> None:
        listed = [
            {"name": name, "release": held.subject.hex(), "recalled": self._mirror.recalled(held)}
            for name, held in sorted(self._mirror.releases.items())
        ]
        self._say(HTTPStatus.OK, {"releases": listed})

    def _say(self, status: HTTPStatus, document: dict[str, object]) -> None:
        body = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, path: Path) -> None:
        with path.open("rb") as stream:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            while piece := stream.read(PIECE):
                self.wfile.write(piece)

    def log_message(self, format: str, *arguments: object) -> None:
        self._note(format % arguments)
