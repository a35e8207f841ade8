"""Attack 17: a chunk that the coordinator stored is altered. A member that gives it the group key lets it forge the sum MAC; the
audit needs no key, and shows what the sum is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from federation.errors import ProtocolViolation
from federation.secagg import encoding as codes
from federation.secagg import sum_mac, transcripts
from federation.secagg.audit import Place, Shown, check_audit, leaves_of
from federation.secagg.events import FetchSum
from federation.secagg.header import header_words
from federation.secagg.merkle import MerkleRoot, leaf_hash, path_of, root_from_path
from federation.secagg.opening import open_sum
from tests.simulation.harness import World

SIZE = 70
"""five chunks of at most 16, and the header"""
LEAVES = 6


class Held(World):
    """A world that stops before a sum is applied, and keeps what each member would have fetched."""

    def __init__(self, n: int = 5, **terms: Any) -> None:
        self.fetched: dict[str, FetchSum] = {}
        super().__init__(n, size=SIZE, rounds=1, final_evaluation=False, **terms)

    def _apply(self, lab: Any, fetch: FetchSum) -> None:
        self.fetched[lab.name] = fetch

    def look(self, member: str, leaf: int, shown: list[Shown] | None = None, total: bytes | None = None) -> None:
        """An audit of one place. Raises ProtocolViolation."""
        fetch, bench = self.fetched[member], self.labs[member].machine.bench
        assert bench is not None
        data = total if total is not None else self.sums[fetch.close.sum_blob]
        code = codes.encoding_of(self.terms, fetch.members, fetch.weight_unit)
        place = Place.of(leaf, len(data), self.terms, code)
        assert place.leaves == LEAVES
        seen = self.shown(fetch.close.context, leaf) if shown is None else shown
        check_audit(bench, fetch, self.terms, code, place, seen, data)

    @property
    def context(self) -> bytes:
        return next(iter(self.fetched.values())).close.context


def closed(view: str = "sum", lost: tuple[str, str] | None = None, **terms: Any) -> Held:
    world = Held(blind=view == "blind", **terms)
    if lost is not None:
        world.kill_before.add(lost)
    world.begin().run()
    assert world.fetched, world.stuck
    return world


def refused(check: str, look: Callable[[], None]) -> None:
    with pytest.raises(ProtocolViolation) as found:
        look()
    assert found.value.check == check


@pytest.mark.parametrize("view", ["sum", "blind"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize(
    "lost", [None, ("m2", "Upload"), ("m2", "Ack")], ids=["all there", "one outside", "one recovered"]
)
def test_every_place_of_an_honest_sum_passes(view: str, bits: int, lost: tuple[str, str] | None) -> None:
    world = closed(view, lost, ring_bits=bits)
    for member in world.fetched:
        for leaf in range(LEAVES):
            world.look(member, leaf)


def with_its_mac(world: Held, place: int, by: int) -> bytes:
    """The sum with one level moved, and MAC words to match: what a coordinator can do that has the group key."""
    fetch = next(iter(world.fetched.values()))
    assert fetch.plan.tag is not None
    data = np.frombuffer(world.sums[fetch.close.sum_blob], np.uint8).copy()
    body = len(data) - 8 * header_words(world.terms)
    levels = data[:body].view("<u2")
    levels[place] += np.uint16(by % (1 << 16))
    size = world.terms.chunk_parameters
    moved = np.zeros(min(size, SIZE - place // size * size), "<i2")
    moved[place % size] = by
    mac = sum_mac.SumMac(fetch.plan.tag.key, size)
    mac.add_rows(place // size, [moved])
    words = data[-8 * sum_mac.WORDS :].view("<u8")
    for which, change in enumerate(mac.tag):
        value = (int(words[2 * which]) + (int(words[2 * which + 1]) << 32) + change) % sum_mac.PRIME
        words[2 * which], words[2 * which + 1] = value & 0xFFFFFFFF, value >> 32
    return data.tobytes()


def test_tampered_stored_chunk_passes_a_forged_mac_and_is_found_by_the_audit() -> None:
    """The chunk is altered after its root was checked; with a colluder's key the sum gets a good MAC. An auditor of it sees it."""
    world = closed()
    fetch = world.fetched["m1"]
    forged = with_its_mac(world, place=35, by=3)  # chunk 2
    code = codes.encoding_of(world.terms, fetch.members, fetch.weight_unit)
    open_sum(forged, fetch.plan, world.terms, code, len(fetch.cohort), fetch.total_weight, SIZE)
    for leaf in range(LEAVES):
        if leaf == 2:
            refused("audit-sum", lambda: world.look("m1", 2, total=forged))  # shows what was signed
        elif leaf < LEAVES - 1:
            world.look("m1", leaf, total=forged)
    refused("audit-sum", lambda: world.look("m1", LEAVES - 1, total=forged))  # the MAC words stand in the header
    tampered = bytearray(world.updates[world.context][2])
    tampered[2 * 35] ^= 3
    world.updates[world.context][2] = bytes(tampered)
    refused("audit-chunk", lambda: world.look("m1", 2, total=forged))  # shows what it added up
    refused("audit-chunk", lambda: world.look("m1", 0))  # and no path fits any more


def test_evidence_of_a_tampered_chunk_names_whose_it_is() -> None:
    world = closed()
    shown = world.shown(world.context, 1)
    shown[3] = replace(shown[3], data=bytes(len(shown[3].data)))
    with pytest.raises(ProtocolViolation, match="m4 signed") as found:
        world.look("m1", 1, shown)
    assert found.value.check == "audit-chunk"
    assert found.value.evidence == shown[3].data


Lie = Callable[[Held, list[Shown]], list[Shown]]


def _unmasked(shown: Shown, **changes: Any) -> Shown:
    return replace(shown, unmasked=replace(shown.unmasked, **changes))


def _reveal(world: Held, shown: Shown, sign: bool = True, **changes: Any) -> Shown:
    reveal = replace(shown.unmasked.reveal, **changes)  # type: ignore[type-var]
    if sign:
        text = transcripts.reveal_transcript(reveal)
        reveal = replace(reveal, signature=world.labs[f"m{shown.unmasked.index}"].signer(text))
    return _unmasked(shown, reveal=reveal)


@pytest.mark.parametrize(
    ("check", "lie"),
    [
        ("audit-cohort", lambda _, shown: shown[1:]),
        ("audit-cohort", lambda _, shown: shown[::-1]),
        ("audit-cohort", lambda _, shown: [*shown, shown[0]]),
        ("audit-chunk", lambda _, shown: [replace(shown[0], data=shown[1].data), *shown[1:]]),
        ("audit-chunk", lambda _, shown: [replace(shown[0], data=shown[0].data + b"\0\0"), *shown[1:]]),
        ("audit-chunk", lambda _, shown: [replace(shown[0], path=shown[0].path[:-1]), *shown[1:]]),
        ("audit-chunk", lambda _, shown: [replace(shown[0], path=(*shown[0].path, bytes(32))), *shown[1:]]),
        ("audit-chunk", lambda world, shown: world.shown(world.context, 2)),
        ("audit-seeds", lambda _, shown: [_unmasked(shown[0], reveal=shown[1].unmasked.reveal), *shown[1:]]),
        ("audit-seeds", lambda _, shown: [_unmasked(shown[0], reveal=None), *shown[1:]]),
        ("audit-seeds", lambda world, shown: [_reveal(world, shown[0], context=bytes(32)), *shown[1:]]),
        ("audit-seeds", lambda world, shown: [_reveal(world, shown[0], edges=((2, bytes(32)),)), *shown[1:]]),
        ("signature", lambda world, shown: [_reveal(world, shown[0], sign=False, self_seed=bytes(32)), *shown[1:]]),
        ("audit-sum", lambda world, shown: [_reveal(world, shown[0], self_seed=bytes(32)), *shown[1:]]),
    ],
    ids=[
        "one left out", "another order", "one twice", "another's chunk", "a longer chunk", "a shorter path", "a longer path",
        "another place", "another's reveal", "no seeds", "another attempt", "an edge within the cohort", "a forged reveal",
        "a colluder's false reveal",
    ],
)  # fmt: skip
def test_a_collector_that_shows_something_else_is_refused(check: str, lie: Lie) -> None:
    world = closed()
    refused(check, lambda: world.look("m1", 1, lie(world, world.shown(world.context, 1))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda upload, seeds: (upload, ((0, bytes(32)), *seeds[1:])),
        lambda upload, seeds: (None, seeds),
        lambda upload, seeds: (upload, seeds[1:]),
        lambda upload, seeds: (replace(upload, trailer=replace(upload.trailer, secret_hashes=(bytes(32),) * 5)), seeds),
        lambda upload, seeds: (upload, (*seeds, (5, bytes(32)))),
    ],
    ids=["another seed", "no trailer", "no self seed", "another trailer", "an edge within the cohort"],
)
def test_rebuilt_seeds_must_be_those_to_which_their_owner_committed(spoil: Callable[[Any, Any], Any]) -> None:
    world = closed(lost=("m2", "Ack"))
    shown = world.shown(world.context, 0)
    (place,) = [at for at, each in enumerate(shown) if each.unmasked.reveal is None]
    upload, seeds = spoil(shown[place].unmasked.upload, shown[place].unmasked.seeds)
    shown[place] = _unmasked(shown[place], upload=upload, seeds=seeds)
    refused("audit-seeds", lambda: world.look("m1", 0, shown))


def test_what_an_audit_shows_opens_no_update() -> None:
    """The seeds of an audit take off self masks only: no seed of a pair within the cohort, and none of an owner outside it."""
    for lost in (None, ("m2", "Upload"), ("m2", "Ack")):
        world = closed(lost=lost)
        cohort = set(next(iter(world.fetched.values())).cohort)
        for each in world.shown(world.context, 0):
            assert each.unmasked.index in cohort
            reveal = each.unmasked.reveal
            seeds = each.unmasked.seeds if reveal is None else ((0, reveal.self_seed), *reveal.edges)
            assert not {peer for peer, _ in seeds} & cohort
            known = [seed for _, seed in seeds]
            plain = world.plain[world.context][each.unmasked.index]
            assert each.data != plain[: len(each.data)]
            assert all(seed not in repr(each.unmasked).encode() for seed in known)


def test_seeds_are_shown_until_the_next_round_is_closed_and_no_longer() -> None:
    world = World(4, rounds=2, final_evaluation=False)
    seen: list[bytes] = []
    forge = world.forge

    def watch(member: str, message: Any) -> Any:
        if hasattr(message, "sum_blob") and message.context not in seen:
            assert world.collector.unmasked(message.context)
            assert not any(world.collector.unmasked(before) for before in seen)
            seen.append(message.context)
        return forge(member, message)

    world.forge = watch
    world.begin().run()
    assert world.done is not None
    assert len(seen) == 2
    assert not any(world.collector.unmasked(context) for context in seen)


@pytest.mark.parametrize("leaves", [1, 2, 3, 4, 5, 7, 8, 9, 33])
def test_paths_lead_to_the_root_from_every_place_and_from_no_other(leaves: int) -> None:
    chunks = [bytes([place]) * 3 for place in range(leaves)]
    tree, hashes = MerkleRoot(), [leaf_hash(chunk) for chunk in chunks]
    for chunk in chunks:
        tree.add(chunk)
    for place, chunk in enumerate(chunks):
        path = path_of(hashes, place)
        assert root_from_path(chunk, place, leaves, path) == tree.root()
        for other in range(leaves):
            if other != place:
                assert root_from_path(chunk, other, leaves, path) != tree.root()
        assert root_from_path(b"another", place, leaves, path) != tree.root()


def test_places_cover_the_update_once() -> None:
    world = closed()
    fetch = world.fetched["m1"]
    code = codes.encoding_of(world.terms, fetch.members, fetch.weight_unit)
    size = len(world.sums[fetch.close.sum_blob])
    places = [Place.of(leaf, size, world.terms, code) for leaf in range(leaves_of(size, world.terms, code))]
    assert [place.start for place in places] == [0, *(place.end for place in places[:-1])]
    assert places[-1].end == size
    assert [place.header for place in places] == [False] * 5 + [True]
    for leaf in (-1, LEAVES):
        with pytest.raises(ProtocolViolation):
            Place.of(leaf, size, world.terms, code)
