"""A release as a folder: fetched into ``DIR.part``, verified, opened where it is sealed, and only then given its name."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from coordinator.client.home import Home
from coordinator.client.transfer import Progress, Transfer, digest_of
from federation.errors import InvalidUsage, NotFound, VerificationFailed
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.releases import verify as releases
from federation.releases.build import open_release
from federation.releases.listing import CONFIG, LISTING, MODEL, SEALED, STATE, Content, read_folder
from federation.releases.verify import NOTHING_KNOWN, Known, Report
from federation.sealing import key_id_of, recipient_key
from federation.v1 import jobs_pb2


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who opens sealed releases."""

    sealing: bytes
    """the private sealing key"""
    signing: SigningKey
    """lists what was opened"""

    def may_open(self, folder: Path) -> bool:
        """Whether a release that was verified names this key."""
        named = json.loads((folder / CONFIG).read_bytes())["model"]["recipients"]
        return key_id_of(recipient_key(self.sealing)) in [each["key"] for each in named]


def recipient_of(home: Home) -> Recipient | None:
    """None where the home has no sealing key."""
    if not home.sealing_key_path.exists():
        return None
    known = home.identity_key_path.exists()
    return Recipient(home.sealing_key(), home.identity_key() if known else SigningKey.generate())


def verify_folder(folder: Path, trusted_roll: bytes | None = None, known: Known = NOTHING_KNOWN) -> Report:
    """Checks a release folder offline. Raises NotFound when it is not there, InvalidUsage when it is no release's folder at all."""
    if not folder.exists():
        raise NotFound(
            f"The folder {folder} does not exist.", hint="Name the folder that `concord release fetch` wrote."
        )
    if not folder.is_dir() or not any((folder / name).exists() for name in (LISTING, MODEL, SEALED, STATE)):
        raise InvalidUsage(
            f"{folder} is not the folder of a release: there is no {LISTING} in it.",
            hint="Name the folder that `concord release fetch` wrote.",
        )
    return releases.verify_folder(folder, trusted_roll, known)


def download(
    blobs: Transfer,
    view: jobs_pb2.ReleaseView,
    folder: Path,
    trusted_roll: bytes | None,
    recipient: Recipient | None,
    progress: Progress,
) -> Report:
    """Fetches, verifies, opens if it is sealed for ``recipient``, renames. Raises VerificationFailed and leaves
    ``folder``.part when a check fails."""
    check_free(folder)
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    take(blobs, view, part, progress)
    report = verify_folder(part, trusted_roll)
    if not report.ok:
        failed = next(check for check in report.checks if not check.ok)
        raise VerificationFailed(
            f"The release does not check: {failed.name}: {failed.detail}",
            hint=f"It was left in {part} and must not be used. Remove that folder and fetch again; if it happens again, tell the "
            "members.",
        )
    if recipient is not None and (part / SEALED).exists() and recipient.may_open(part):
        report = open_folder(part, folder, recipient, trusted_roll)
        shutil.rmtree(part)
        return report
    part.replace(folder)
    return report


def take(blobs: Transfer, view: jobs_pb2.ReleaseView, folder: Path, progress: Progress) -> None:
    """Fetches every file that is not there yet, as listed."""
    total, done = sum(item.size for item in view.files), 0
    for item in view.files:
        target = folder / _checked(item.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.is_file() and target.stat().st_size == item.size and digest_of(target) == item.digest):
            blobs.get(item.digest, item.size, target, _after(done, total, progress))
        done += item.size
        progress(done, total)


def open_folder(folder: Path, out: Path, recipient: Recipient, trusted_roll: bytes | None) -> Report:
    """Writes the sealed release in ``folder`` with its model in clear to ``out``, verified. Raises VerificationFailed."""
    check_free(out)
    report = verify_folder(folder, trusted_roll)
    if not report.ok:
        raise VerificationFailed(
            f"The release in {folder} does not check.", hint=f"See `concord verify {folder}`. Fetch it again."
        )
    part = out.with_name(out.name + ".opened")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        now = moment_text(datetime.now(UTC))
        for path, content in open_release(read_folder(folder), recipient.sealing, part, recipient.signing, now).items():
            _place(content, part / path)
        report = verify_folder(part, trusted_roll)
        if not report.ok:
            raise VerificationFailed("The opened release does not check.", hint="Tell the members; this is a fault.")
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return report


def _place(content: Content, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    elif content != target:
        shutil.copyfile(content, target)


def check_free(folder: Path) -> None:
    """Raises InvalidUsage unless ``folder`` is absent or empty."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InvalidUsage(
            f"{folder} is there already, and a release takes an empty folder.",
            hint="Name another folder with --out, or move this one away.",
        )


def _after(done: int, total: int, progress: Progress) -> Progress:
    """Progress of one file as progress of the whole."""
    return lambda count, _size: progress(done + count, total)


def _checked(path: str) -> str:
    pure = PurePosixPath(path)
    if (
        not pure.parts
        or pure.is_absolute()
        or str(pure) != path
        or ".." in pure.parts
        or not path.isprintable()
        or "\\" in path
    ):
        raise VerificationFailed(
            f"The release names a path that is not allowed: {path[:80]!r}.", hint="Tell the operator."
        )
    return path
