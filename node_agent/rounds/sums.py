"""The sums of one job on this node: as they came, checked and audited, and the state that each makes of the one before."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import secrets
from collections.abc import Callable
from typing import Any, Final

from federation.errors import ProtocolViolation
from federation.manifest.manifest import Manifest
from federation.secagg import events, wire
from federation.secagg.audit import Place, Shown, check_audit, leaves_of
from federation.secagg.certificate import Bench
from federation.secagg.encoding import encoding_of, update_size
from federation.secagg.figures import public_words
from federation.secagg.masking import Buffer
from federation.secagg.messages import Close
from federation.secagg.opening import open_sum
from federation.weights.layout import Layout
from federation.weights.outer_step import next_scales
from federation.weights.state import ModelState
from node_agent.rounds.files import JobFiles
from node_agent.rounds.lab import Lab
from node_agent.rounds.training import LANES

INLINE_SUM: Final = 1 << 20
INLINE_SUMS: Final = 4


class Sums:
    """``bench``: the roster's, once the member sits on one."""

    def __init__(self, lab: Lab, manifest: Manifest, files: JobFiles, bench: Callable[[], Bench | None]) -> None:
        self._lab, self._manifest, self._files, self._bench = lab, manifest, files, bench
        self._terms = manifest.terms()
        self._inline: dict[bytes, bytes] = {}
        """by their digest, the last few"""

    def hold(self, digest: bytes, data: bytes) -> None:
        """A sum that rode along with its Close; one that is too large to is left out."""
        if 0 < len(data) <= INLINE_SUM:
            while len(self._inline) >= INLINE_SUMS:
                del self._inline[next(iter(self._inline))]
            self._inline[digest] = data

    def as_told(self, close: Close) -> Any:
        """A Close as it came, with its sum where that rode along."""
        proto: Any = wire.to_proto(close)
        proto.inline_sum = self._inline.get(close.sum_blob, b"")
        return proto

    async def applied(self, fetch: events.FetchSum, state: ModelState) -> tuple[ModelState, tuple[int, ...]]:
        """The state after ``state``, on disk, and the figures that people may see.

        Raises ProtocolViolation for a sum that is not the one that the cohort signed, Unavailable, VerificationFailed.
        """
        inline = self._inline.get(fetch.close.sum_blob)
        if inline is not None:
            if hashlib.sha256(inline).digest() != fetch.close.sum_blob:
                raise ProtocolViolation("The sum that came is not the one that was announced.", check="sum-digest")
            return await self._checked(fetch, state, inline)
        path = self._files.root / "sum"
        parameters = 0 if self._terms.header_only(fetch.close.round) else Layout.of(state.arrays).size
        size = update_size(self._terms, encoding_of(self._terms, fetch.members, fetch.weight_unit), parameters)
        if fetch.close.sum_size != size:
            raise ProtocolViolation(
                f"The sum is said to hold {fetch.close.sum_size:,} bytes, and {size:,} are right.", check="sum-size"
            )
        await self._lab.way.get_blob(fetch.close.sum_blob, path, size)
        if path.stat().st_size != size:
            raise ProtocolViolation("The sum has another size than it is said to have.", check="sum-size")
        with path.open("rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        stepped = await self._checked(fetch, state, data)
        path.unlink(missing_ok=True)
        return stepped

    async def _checked(
        self, fetch: events.FetchSum, state: ModelState, data: Buffer
    ) -> tuple[ModelState, tuple[int, ...]]:
        stepped = await asyncio.to_thread(self._step, fetch, state, data)
        await self._audit(fetch, data)
        return stepped

    async def _audit(self, fetch: events.FetchSum, data: Buffer) -> None:
        """One place of the sum, drawn when the sum is here. Raises ProtocolViolation when it is not what the cohort signed."""
        bench, terms = self._bench(), self._terms
        if bench is None:
            return
        encoding = encoding_of(terms, fetch.members, fetch.weight_unit)
        place = Place.of(secrets.randbelow(leaves_of(len(data), terms, encoding)), len(data), terms, encoding)
        parts = await self._lab.way.audit(self._manifest.digest, fetch.close.context, place.leaf, len(fetch.cohort))
        shown = [Shown(wire.unmasked_from_proto(part), part.data, tuple(part.path)) for part in parts]
        await asyncio.to_thread(check_audit, bench, fetch, terms, encoding, place, shown, data)
        self._lab.count("audits")

    def _step(self, fetch: events.FetchSum, state: ModelState, data: Buffer) -> tuple[ModelState, tuple[int, ...]]:
        """Range checks and the sum MAC, then the outer step; and the figures that people may see. Raises
        ProtocolViolation."""
        terms = self._terms
        encoding = encoding_of(terms, fetch.members, fetch.weight_unit)
        header_only = terms.header_only(fetch.close.round)
        parameters = 0 if header_only else Layout.of(state.arrays).size
        total = open_sum(data, fetch.plan, terms, encoding, len(fetch.cohort), fetch.total_weight, parameters, LANES)
        figures = public_words(total.header, terms)
        if header_only:
            return state, figures
        scales = next_scales(state.scales, total.peaks, len(fetch.cohort), encoding.level_bound, total.saturated, terms)
        spec = self._manifest.strategy
        return self._files.advance(spec, state, total.means(state.scales), scales), figures
