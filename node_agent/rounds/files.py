"""The files of one job on this node: bundle, states, what the worker reads, the masked update. Private, and erased at the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from federation.errors import VerificationFailed
from federation.manifest.strategy import StrategySpec
from federation.sealing import PIECE, salt_of, seal, unseal
from federation.weights.outer_step import next_form, next_parts
from federation.weights.state import ModelState, StateDigest, read_state, state_head, write_state
from federation.weights.strategies import kept_by
from federation.weights.tensors import head, write_arrays
from node_agent.store.files import private_folder

KEPT_STATES = 2
SYNC_LIMIT = 8 << 20
"""states up to this size are synced before they are promised; larger ones are fetched again after a power cut"""


@dataclass(frozen=True, slots=True)
class JobFiles:
    """``workshop``: a folder of this node in which the worker's files lie, under the job's name; None: in the job's own folder."""

    root: Path
    workshop: Path | None = None

    def prepare(self) -> None:
        for folder in (self.root, self.states, self.scratch, self.updates):
            private_folder(folder)

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    @property
    def states(self) -> Path:
        return self.root / "states"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch" if self.workshop is None else self.workshop / self.root.name

    @property
    def updates(self) -> Path:
        return self.root / "updates"

    @property
    def task_log(self) -> Path:
        return self.root / "task.log"

    def state(self, round_number: int) -> Path:
        return self.states / f"{round_number}.safetensors"

    def model(self, round_number: int) -> Path:
        return self.scratch / f"model-{round_number}.safetensors"

    def update(self, context: bytes) -> Path:
        return self.updates / context.hex()

    def unpack(self, files: Mapping[str, bytes]) -> None:
        """The task bundle, replacing what is there."""
        fresh = self.root / "bundle.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for path, data in files.items():
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        shutil.rmtree(self.bundle, ignore_errors=True)
        fresh.replace(self.bundle)

    def keep(self, state: ModelState) -> None:
        """A state, as its members certify it, and the model in it, as the worker reads it: both new, or neither is there."""
        self.model(state.round).unlink(missing_ok=True)  # of another state of this round, which the members replaced
        write_state(self.state(state.round), state)
        self.show(state)
        self._settle(state)

    def advance(
        self,
        spec: StrategySpec,
        state: ModelState,
        means: Iterable[npt.NDArray[np.float64]],
        scales: npt.NDArray[np.int8],
    ) -> ModelState:
        """The next state, kept as by ``keep``: computed, written and hashed part by part, then mapped.

        ``means``: the certified mean difference, as ``next_parts`` takes it. Memory: a few of its pieces.
        """
        coming = next_form(spec, state, scales)
        path, model = self.state(coming.round), self.model(coming.round)
        fresh, shown = path.with_name(f".{path.name}.new"), model.with_name(f".{model.name}.new")
        digest, begun = StateDigest(coming.round, len(coming.arrays), len(coming.optimiser)), None
        with fresh.open("wb") as states, shown.open("wb") as models, contextlib.ExitStack() as opened:
            states.write(state_head(coming))
            models.write(head(coming.arrays))
            # What is kept beside the model comes after it in the file, kind by kind: each kind is written at its own place.
            places = [opened.enter_context(fresh.open("r+b")) for _ in kept_by(spec)]
            beside = states.tell() + sum(array.nbytes for array in coming.arrays.values())
            wide = sum(array.nbytes for array in coming.optimiser.values())
            for number, place in enumerate(places):
                place.seek(beside + number * wide // len(places))
            for name, (part, *kept) in next_parts(spec, state, means):
                if name != begun:
                    digest.begin(name, coming.arrays[name])
                    begun = name
                digest.add(part)
                states.write(part.data)
                models.write(part.data)
                for place, piece in zip(places, kept, strict=False):  # nothing is kept of what is not summed
                    place.write(piece.data)
            states.seek(beside + wide)
            states.write(scales.data)
        with fresh.open("rb") as stream:
            stream.seek(beside)
            for name, array in coming.optimiser.items():
                digest.begin(name, array)
                for size in _cut(array.nbytes):
                    digest.add(np.frombuffer(stream.read(size), np.uint8))
        model.unlink(missing_ok=True)
        fresh.replace(path)
        shown.replace(model)
        held = replace(read_state(path), _digest=[digest.end(scales)])
        self._settle(held)
        return held

    def _settle(self, state: ModelState) -> None:
        """On disk when it is small; and states that nobody asks for any more are gone."""
        path = self.state(state.round)
        if path.stat().st_size <= SYNC_LIMIT:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        for old in self.states.glob("*.safetensors"):
            if old.stem.isdecimal() and int(old.stem) <= state.round - KEPT_STATES:
                old.unlink(missing_ok=True)
                self.model(int(old.stem)).unlink(missing_ok=True)

    def show(self, state: ModelState) -> Path:
        """The model's file for the worker."""
        path = self.model(state.round)
        if not path.exists():
            write_arrays(path, state.arrays)
        return path

    def load(self, round_number: int, digest: bytes) -> ModelState:
        """Raises VerificationFailed when the state is missing or another."""
        state = read_state(self.state(round_number))
        if state.digest() != digest or state.round != round_number:
            raise VerificationFailed(f"The state of round {round_number} on disk is not the one that was promised.")
        return state

    def find(self, digest: bytes) -> Path | None:
        for path in self.states.glob("*.safetensors"):
            try:
                if read_state(path).digest() == digest:
                    return path
            except VerificationFailed:
                continue
        return None

    def sealed(self, path: Path, key: bytes) -> Path:
        """A copy that only who has ``key`` reads; the same bytes at every member that has file and key."""
        out = self.root / "sealed"
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
        _write(out, seal(key, salt_of(key, digest), _pieces(path)))
        return out

    def unsealed(self, path: Path, key: bytes) -> Path:
        """Raises VerificationFailed, and leaves nothing, when it does not open."""
        out = self.root / "unsealed.safetensors"
        try:
            _write(out, unseal(key, _pieces(path)))
        except VerificationFailed:
            out.unlink(missing_ok=True)
            raise
        return out

    def erase_work(self) -> None:
        """At the job's end: everything but the lab's own log, if there is one."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        for path in self.root.iterdir() if self.root.exists() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != self.task_log:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the log is there
            self.root.rmdir()


def _cut(size: int) -> Iterator[int]:
    """Of so many bytes, piece by piece."""
    for start in range(0, size, PIECE):
        yield min(PIECE, size - start)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        for piece in pieces:
            stream.write(piece)
