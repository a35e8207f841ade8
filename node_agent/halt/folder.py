"""Orders and lifts as files of the home: on disk before anything follows from them, and written there by commands as well.

One file for each, named by its digest. Nothing is ever taken away here. A file that cannot be read is an order that nobody can
read any more: as long as it lies there everything is stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from federation.errors import FederationError
from federation.halt.order import MAX_LIFT, MAX_ORDER, SignedLift, SignedOrder, read_lift, read_order
from node_agent.store.files import private_folder, write_whole

ORDER: Final = ".order.json"
LIFT: Final = ".lift.json"
RECEIPT: Final = ".receipt.json"
DONE: Final = ".done"
COORDINATOR_KEY: Final = "coordinator.key"
AGENT: Final = "agent.json"


@dataclass(frozen=True, slots=True)
class Found:
    orders: tuple[SignedOrder, ...]
    lifts: tuple[SignedLift, ...]
    unreadable: tuple[str, ...]
    """names of files that hold neither"""


@dataclass(frozen=True, slots=True)
class HaltFolder:
    root: Path

    def prepare(self) -> None:
        private_folder(self.root)

    def stamp(self) -> int:
        """Another number after each change of what lies here; 0 while there is no folder."""
        try:
            return self.root.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def read(self, known: frozenset[str] = frozenset()) -> Found:
        """All but the files of these names. Raises OSError when the folder cannot be read."""
        orders: list[SignedOrder] = []
        lifts: list[SignedLift] = []
        unreadable: list[str] = []
        for path in sorted(self.root.iterdir()) if self.root.exists() else ():
            if path.name in known or path.name.startswith("."):
                continue
            try:
                if path.name.endswith(ORDER):
                    orders.append(read_order(_limited(path, MAX_ORDER)))
                elif path.name.endswith(LIFT):
                    lifts.append(read_lift(_limited(path, MAX_LIFT)))
            except FederationError:
                unreadable.append(path.name)
        return Found(tuple(orders), tuple(lifts), tuple(unreadable))

    def keep_order(self, signed: SignedOrder) -> None:
        self._keep(f"{signed.digest.hex()}{ORDER}", signed.envelope)

    def keep_lift(self, signed: SignedLift) -> None:
        self._keep(f"{signed.lifted.digest.hex()}{LIFT}", signed.envelope)

    def keep_receipt(self, order: bytes, receipt: bytes) -> None:
        self._keep(f"{order.hex()}{RECEIPT}", receipt)

    def receipts(self) -> dict[bytes, bytes]:
        """By the order's digest."""
        found = {}
        for path in self.root.glob(f"*{RECEIPT}"):
            found[bytes.fromhex(path.name.removesuffix(RECEIPT))] = _limited(path, MAX_ORDER)
        return found

    def coordinator_key(self) -> bytes | None:
        """Under which the coordinator signs receipts: its log's, as this home has it; else as it said first."""
        path = self.root / COORDINATOR_KEY
        return path.read_bytes()[:32] if path.exists() else None

    def keep_coordinator_key(self, key: bytes, *, known: bool = False) -> None:
        """The first one stays, unless it is ``known`` by another way than the coordinator's word."""
        if known and self.coordinator_key() not in {None, key}:
            (self.root / COORDINATOR_KEY).unlink()
        self._keep(COORDINATOR_KEY, key)

    def done(self, order: bytes, said: dict[str, Any]) -> None:
        """For the command that waits: what was done about it."""
        self._keep(f"{order.hex()}{DONE}", json.dumps(said).encode())

    def was_done(self, order: bytes) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.root / f"{order.hex()}{DONE}").read_bytes()))
        except (FileNotFoundError, ValueError):
            return None

    def _keep(self, name: str, data: bytes) -> None:
        path = self.root / name
        if not path.exists():
            self.prepare()
            write_whole(path, data)


def _limited(path: Path, limit: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(limit + 1)
