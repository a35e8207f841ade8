"""A release as a folder: fetched into ``DIR.part``, verified, and only then given its name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from coordinator.client.transfer import Progress, Transfer, digest_of
from federation.errors import InvalidUsage, NotFound, VerificationFailed
from federation.releases import verify as releases
from federation.releases.listing import LISTING, MODEL, STATE
from federation.releases.verify import Report
from federation.v1 import jobs_pb2


def verify_folder(folder: Path, trusted_roll: bytes | None = None) -> Report:
    """Checks a release folder offline. Raises NotFound when it is not there, InvalidUsage when it is no release's folder at all."""
    if not folder.exists():
        raise NotFound(
            f"The folder {folder} does not exist.", hint="Name the folder that `concord release fetch` wrote."
        )
    if not folder.is_dir() or not any((folder / name).exists() for name in (LISTING, MODEL, STATE)):
        raise InvalidUsage(
            f"{folder} is not the folder of a release: there is no {LISTING} in it.",
            hint="Name the folder that `concord release fetch` wrote.",
        )
    return releases.verify_folder(folder, trusted_roll)


def download(
    blobs: Transfer, view: jobs_pb2.ReleaseView, folder: Path, trusted_roll: bytes | None, progress: Progress
) -> Report:
    """Fetches, verifies, renames. Raises VerificationFailed and leaves ``folder``.part when a check fails."""
    check_free(folder)
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
            hint=f"It was left in {part} and must not be used. Remove that folder and fetch again; if it happens again, tell the "
            "members.",
        )
    part.replace(folder)
    return report


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
