"""What a release is made of, and the signed list of its files.

The list only says which bytes belong together. Nothing is believed because it is listed: who trained what, and which model came
out, follows from the members' own signatures in the files (``federation.releases.verify``). Who puts the files together signs
the list: the coordinator with its release key, or the recipient who opened a sealed release.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from federation.errors import VerificationFailed
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, whole
from federation.identity.keys import SigningKey
from federation.identity.names import LABEL

LISTING: Final = "listing.json"
MODEL: Final = "model.safetensors"
STATE: Final = "state.safetensors"
SEALED: Final = "state.sealed"
KEYS: Final = "sealed.json"
CONFIG: Final = "config.json"
CARD: Final = "README.md"
BOM: Final = "bom.cdx.json"
STATEMENT: Final = "statement.intoto.json"
MADE: Final = (CARD, CONFIG, BOM, STATEMENT)
"""what says again what the other files say"""
APPROVAL: Final = "approval.json"
"""the members' vote on the release; where none was needed there is none"""
MANIFEST: Final = "manifest.json"
TASK: Final = "task.tar"
ROLL: Final = "roll.json"
ROSTER: Final = "roster.json"
LOG: Final = "log.json"
"""the public log from the job's submission on, to a head that members' nodes cosigned"""
FIXED: Final = (*MADE, LOG, MANIFEST, ROLL, ROSTER, TASK)
OPEN: Final = (MODEL, STATE)
"""of a release that everybody may read"""
CLOSED: Final = (KEYS, SEALED)
"""of one that is sealed for its recipients"""

LARGE: Final = (MODEL, STATE, SEALED)
"""as large as the model is; no other file is larger than a task"""

MAX_LISTING: Final = 64 << 20
MAX_FILES: Final = 200_000
MAX_EVIDENCE: Final = 32 << 20
"""of any file that is read whole: all but the model and the state"""
MAX_TASK: Final = 128 << 20
PIECE: Final = 1 << 20
_FOLDERS: Final = ("consents", "revocations", "rounds")
_ROUND: Final = re.compile(r"rounds/[1-9][0-9]{0,8}\.json")

Content = Path | bytes


@dataclass(frozen=True, slots=True)
class ListedFile:
    path: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    created: str
    files: tuple[ListedFile, ...]
    """sorted by path"""
    signer: bytes
    """the key of whoever put the files together: the coordinator's release key, or a recipient's"""


def consent_path(member: str) -> str:
    return f"consents/{member}.json"


def revocation_path(member: str) -> str:
    return f"revocations/{member}.json"


def round_path(number: int) -> str:
    return f"rounds/{number}.json"


def is_release_path(path: str) -> bool:
    """Whether a release may hold a file of this name, beside the listing."""
    member = path.rpartition("/")[2].removesuffix(".json")
    return (
        path in (*FIXED, *OPEN, *CLOSED, APPROVAL)
        or _ROUND.fullmatch(path) is not None
        or (path in (consent_path(member), revocation_path(member)) and LABEL.fullmatch(member) is not None)
    )


def size_of(content: Content) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def read_whole(path: str, content: Content, limit: int = MAX_EVIDENCE) -> bytes:
    """Raises VerificationFailed when the file is larger than ``limit``."""
    if size_of(content) > limit:
        raise VerificationFailed(f"{path} is larger than {limit} bytes.", hint="It is not a release's file.")
    return content.read_bytes() if isinstance(content, Path) else content


def pieces_of(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece


def digest_of(content: Content) -> bytes:
    hasher = hashlib.sha256()
    for piece in pieces_of(content):
        hasher.update(piece)
    return hasher.digest()


def seal_listing(files: Mapping[str, Content], created: str, key: SigningKey) -> bytes:
    document: dict[str, Any] = {
        "created": created,
        "files": [[path, digest_of(files[path]).hex(), size_of(files[path])] for path in sorted(files)],
    }
    return seal(document, "release", (key,))


def open_listing(envelope: bytes) -> Listing:
    """Raises InvalidIdentity for a bad envelope, VerificationFailed for what is no list of a release's files."""
    opened = open_envelope(envelope, "release", MAX_LISTING)
    if len(opened.signers) != 1:
        raise VerificationFailed("The listing is not signed by one release key.")
    document = exact(opened.document, "listing", "created", "files")
    entries = document["files"]
    if not isinstance(entries, list) or len(entries) > MAX_FILES:
        raise VerificationFailed("The listing's files are not a list.")
    files = tuple(_listed(entry) for entry in entries)
    paths = [file.path for file in files]
    if paths != sorted(set(paths)):
        raise VerificationFailed("The listing is not sorted by path, or names a file twice.")
    moment(document["created"], "listing's created")
    return Listing(
        created=document["created"],
        files=files,
        signer=opened.signers[0],
    )


def _listed(entry: object) -> ListedFile:
    if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[0], str) or not is_release_path(entry[0]):
        raise VerificationFailed("The listing names a file that no release holds.")
    return ListedFile(
        entry[0], hexadecimal(entry[1], "digest of a listed file", 32), whole(entry[2], "size of a listed file")
    )


def read_folder(folder: Path) -> dict[str, Path]:
    """{path: file} of a release on disk. Raises VerificationFailed for links, strange files, folders no release has, and more
    files than any has."""
    if folder.is_symlink() or not folder.is_dir():
        raise VerificationFailed(f"{folder} is not a folder.", hint="Name the folder that concord release fetch wrote.")
    found: dict[str, Path] = {}
    for item in _few(folder):
        if item.name in _FOLDERS and item.is_dir() and not item.is_symlink():
            found |= {f"{item.name}/{file.name}": file for file in _few(item)}
        else:
            found[item.name] = item
    for path, file in found.items():
        if file.is_symlink() or not file.is_file():
            raise VerificationFailed(
                f"{path} is not a plain file, and a release holds nothing else.", hint="Fetch the release again."
            )
    return found


def _few(folder: Path) -> list[Path]:
    """What lies in a folder, sorted. Raises VerificationFailed when it is more than a release holds."""
    items = list(islice(folder.iterdir(), MAX_FILES + 1))
    if len(items) > MAX_FILES:
        raise VerificationFailed(f"{folder} holds more than {MAX_FILES} files, and is no release.")
    return sorted(items)
