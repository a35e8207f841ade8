"""Moving blobs: content-addressed, in parts below 1 MiB, continued where they stopped."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.client.channel import UNARY_SECONDS, spoken_errors
from federation.errors import NotFound, ProtocolViolation, Unavailable, VerificationFailed
from federation.route import Route
from federation.v1 import blobs_pb2, blobs_pb2_grpc

PART: Final = 512 << 10
ATTEMPTS: Final = 6
STREAM_SECONDS: Final = 900.0

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(frozen=True, slots=True)
class Transfer:
    stub: blobs_pb2_grpc.BlobsStub
    route: Route
    pause: Callable[[float], None] = time.sleep

    def put(self, source: bytes | Path, digest: bytes, progress: Progress = lambda _done, _size: None) -> None:
        """Uploads ``source`` unless it is there. Raises Unavailable when it cannot be brought to its end."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        for attempt in range(ATTEMPTS):
            try:
                held = self._held(digest)
                if held.complete:
                    progress(size, size)
                    return
                if held.held > size:
                    raise ProtocolViolation(
                        "The coordinator says that it holds more than the whole blob.",
                        check="blob-held-beyond-its-size",
                        hint="Tell the operator.",
                    )
                with spoken_errors(self.route):
                    receipt = self.stub.Put(_parts(source, digest, size, held.held, progress), timeout=STREAM_SECONDS)
                if receipt.complete:
                    progress(size, size)
                    return
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
            self.pause(0.1 * 2**attempt)
        raise Unavailable(
            f"The upload to {self.route.place} did not come to its end.",
            hint="Run the command again: it continues where it stopped.",
        )

    def get(self, digest: bytes, size: int, target: Path, progress: Progress = lambda _done, _size: None) -> None:
        """Downloads into ``target``, continuing what is there. Raises VerificationFailed when the bytes are not ``digest``."""
        for attempt in range(ATTEMPTS):
            try:
                self._fetch(digest, size, target, progress)
                break
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                self.pause(0.1 * 2**attempt)
        if digest_of(target) != digest:
            target.unlink()
            raise VerificationFailed(
                f"What the coordinator sent for {digest.hex()} has another digest.",
                hint="It was thrown away. Fetch it again; if it happens again, tell the operator.",
            )

    def _fetch(self, digest: bytes, size: int, target: Path, progress: Progress) -> None:
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "r+b") as stream:
            done = min(stream.seek(0, os.SEEK_END), size)
            stream.truncate(done)
            stream.seek(done)
            progress(done, size)
            if done == size:
                return
            with spoken_errors(self.route):
                call = self.stub.Get(blobs_pb2.BlobRequest(digest=digest, offset=done), timeout=STREAM_SECONDS)
                for part in call:
                    if part.offset != done or done + len(part.data) > size:
                        raise VerificationFailed(
                            f"The coordinator sent other bytes than those asked for ({digest.hex()}).",
                            hint="Tell the operator; nothing was kept.",
                        )
                    stream.write(part.data)
                    done += len(part.data)
                    progress(done, size)
        if done != size:
            raise Unavailable(
                f"The download from {self.route.place} stopped after {done:,} of {size:,} bytes.",
                hint="Run the command again: it continues where it stopped.",
            )

    def _held(self, digest: bytes) -> blobs_pb2.BlobReceipt:
        try:
            with spoken_errors(self.route):
                receipt: blobs_pb2.BlobReceipt = self.stub.Held(
                    blobs_pb2.BlobRequest(digest=digest), timeout=UNARY_SECONDS
                )
        except NotFound:
            return blobs_pb2.BlobReceipt(held=0, complete=False)
        return receipt


def digest_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _parts(
    source: bytes | Path, digest: bytes, size: int, held: int, progress: Progress
) -> Iterator[blobs_pb2.BlobPart]:
    """From ``held`` on. The first part alone names digest and size; an empty blob is one empty part."""
    first = True
    for offset, data in _pieces(source, size, held):
        part = blobs_pb2.BlobPart(offset=offset, data=data)
        if first:
            part.digest, part.size, first = digest, size, False
        yield part
        progress(offset + len(data), size)


def _pieces(source: bytes | Path, size: int, held: int) -> Iterator[tuple[int, bytes]]:
    if held >= size:
        yield held, b""
    elif isinstance(source, bytes):
        for offset in range(held, size, PART):
            yield offset, source[offset : offset + PART]
    else:
        with source.open("rb") as stream:
            stream.seek(held)
            offset = held
            while data := stream.read(PART):
                yield offset, data
                offset += len(data)


__all__ = ["ATTEMPTS", "PART", "Progress", "Transfer", "digest_of"]
