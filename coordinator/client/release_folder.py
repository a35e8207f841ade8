"""A release as a folder: fetched into ``DIR.part``, verified, and only then given its name."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import Final

from coordinator.client.files import walk_files
from coordinator.client.transfer import Progress, Transfer, digest_of
from federation.errors import InvalidUsage, VerificationFailed
from federation.releases.verify import Report, verify
from federation.v1 import jobs_pb2

FILES_LIMIT: Final = 100_000


def verify_folder(folder: Path, trusted_roll: bytes | None = None) -> Report:
    """Checks a release folder offline. Links and special files are refused. Raises InvalidUsage when it is no folder."""
    if not folder.is_dir():
        raise InvalidUsage(f"{folder} is not a folder.", hint="Name the folder of a release.")
    files: dict[str, Path | bytes] = {}
    for name, path, status in walk_files(folder, FILES_LIMIT):
        if not stat.S_ISREG(status.st_mode):
            raise VerificationFailed(
                f"{name} is not a regular file.", hint="A release holds files only; fetch it again."
            )
        files[name] = path
    return verify(files, trusted_roll)


def download(
    blobs: Transfer, view: jobs_pb2.ReleaseView, folder: Path, trusted_roll: bytes | None, progress: Progress
) -> Report:
    """Fetches, verifies, renames. Raises VerificationFailed and leaves ``folder``.part when a check fails."""
    if folder.exists():
        raise InvalidUsage(f"{folder} is there already.", hint="Name another folder, or move it away.")
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    total, done = sum(item.size for item in view.files), 0
    for item in view.files:
        target = part / _checked(item.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.is_file() and target.stat().st_size == item.size and digest_of(target) == item.digest):
            blobs.get(item.digest, item.size, target, _after(done, total, progress))
        done += item.size
        progress(done, total)
    report = verify_folder(part, trusted_roll)
    if not report.ok:
        failed = next(check for check in report.checks if not check.ok)
        raise VerificationFailed(
            f"The release does not check: {failed.name}: {failed.detail}",
            hint=f"It was left in {part} and must not be used.",
        )
    part.replace(folder)
    return report


def _after(done: int, total: int, progress: Progress) -> Progress:
    """Progress of one file as progress of the whole."""
    return lambda count, _size: progress(done + count, total)


def _checked(path: str) -> str:
    pure = PurePosixPath(path)
    if (
        not path
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
