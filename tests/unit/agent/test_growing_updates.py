"""What stands in an update's file may leave, and nothing else; the file is written once, in order, and its root is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from federation.secagg import encoding as codes
from federation.secagg.encoding import Piece
from federation.secagg.events import MaskPlan
from federation.secagg.header import Header
from federation.secagg.merkle import MerkleRoot, leaf_hash
from node_agent.rounds import growing
from node_agent.rounds.growing import GrowingUpdate
from tests.simulation.harness import terms_of

CHUNKS = [bytes([number]) * 100 for number in range(20)]
WHOLE = b"".join(CHUNKS)


def pieces(gate: threading.Semaphore | None = None) -> Generator[Piece]:
    """One after another in one buffer, as they come from the encoding; ``gate`` lets each through."""
    buffer = bytearray(100)
    for chunk in CHUNKS:
        if gate is not None:
            gate.acquire()
        buffer[:] = chunk
        yield Piece(memoryview(buffer), leaf_hash(chunk))


def test_the_file_and_its_root_are_those_of_the_pieces(tmp_path: Path) -> None:
    tree = MerkleRoot()
    for chunk in CHUNKS:
        tree.add(chunk)
    update = GrowingUpdate(tmp_path / "update", len(WHOLE))
    assert update.write(pieces()) == tree.root()
    assert (tmp_path / "update").read_bytes() == WHOLE
    assert GrowingUpdate.whole(tmp_path / "update").size == len(WHOLE)


def test_a_full_disk_ends_the_work_and_its_threads_at_once() -> None:
    """On Linux's device that takes no byte."""
    terms = terms_of()
    code = codes.encoding_of(terms, 3, 1)
    size = 50 * code.chunk_parameters
    before = set(threading.enumerate())
    made = codes.pieces_of(
        np.ones(size, np.float32),
        Header.of(terms, 1, 1.0, {}),
        MaskPlan(bytes(32), (), bytes(32)),
        code,
        np.zeros(50, np.int8),
        lanes=3,
    )
    with pytest.raises(OSError, match="No space left"):
        GrowingUpdate(Path("/dev/full"), size).write(made)
    assert set(threading.enumerate()) == before
    assert next(made, None) is None, "the pieces are closed, not left half-way"


def test_whoever_reads_waits_for_what_is_not_written_yet(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(growing, "STEP", 1)
    path, gate = tmp_path / "update", threading.Semaphore(0)

    async def both() -> None:
        update = GrowingUpdate.begun(path, len(WHOLE))
        writing = asyncio.create_task(asyncio.to_thread(update.write, pieces(gate)))
        read = b""
        while len(read) < len(WHOLE):
            waiting = asyncio.create_task(update.until(len(read) + 150))
            await asyncio.sleep(0)
            assert not waiting.done(), "what is not let through is not there"
            gate.release()
            gate.release()
            standing = await waiting
            assert min(len(read) + 150, len(WHOLE)) <= standing <= len(WHOLE)
            read = path.read_bytes()[:standing]
            assert read == WHOLE[:standing]
        await writing

    asyncio.run(both())
