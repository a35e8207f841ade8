"""Page: "A round r, attempt a": everything that an attempt makes, when nobody lies and some members are lost."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tests.plain import merkle, shamir, sums
from tests.plain import transcripts as t
from tests.plain.ciphers import AES_256_CTR, drawn, expand, seal, unseal
from tests.plain.quorums import quorums
from tests.plain.setup import Epoch, Said, signed
from tests.plain.update import Code, Mask, Update, update


@dataclass(frozen=True)
class Rules:
    """From the manifest."""

    bits: int
    clip_norm: int
    metrics: tuple[str, ...]
    chunk: int
    blind: bool = True
    cipher: str = AES_256_CTR
    lowest: int = -20
    highest: int = 8

    def code(self, epoch: Epoch) -> Code:
        return Code(epoch.n, self.bits, self.cipher, epoch.unit, Fraction(self.clip_norm), self.chunk, self.metrics)


@dataclass(frozen=True)
class Input:
    """What one lab's training gave."""

    difference: list[Fraction]
    squared_norm: Fraction
    figures: dict[str, Fraction]


@dataclass(frozen=True)
class Drawn:
    self_seed: bytes
    dither: bytes
    coefficients: list[list[int]]
    """of the polynomial of b, then of each edge's, without the constant"""

    @staticmethod
    def of(label: str, secrets: int, threshold: int) -> Drawn:
        """From one stream: b, the dither key, then 48 bytes mod p for each coefficient."""
        data = drawn(label, 64 + 48 * secrets * (threshold - 1))
        numbers = [int.from_bytes(data[at : at + 48], "big") % shamir.P for at in range(64, len(data), 48)]
        step = threshold - 1
        return Drawn(data[:32], data[32:64], [numbers[at : at + step] for at in range(0, len(numbers), step)])


# ---------------------------------------------------------------------------------------------- what keys give in a ctx


def mask_seed(epoch: Epoch, context: bytes, one: int, other: int, round_: int) -> bytes:
    return expand(epoch.root(one, other, round_), t.transcript("mask", context))


def blind_seed(epoch: Epoch, context: bytes, index: int, round_: int) -> bytes:
    return expand(epoch.group(round_), t.transcript("blind", context, index))


def tag_key(epoch: Epoch, context: bytes, round_: int) -> bytes:
    return expand(epoch.group(round_), t.transcript("tag", context))


def pad_seed(epoch: Epoch, context: bytes, index: int, round_: int) -> bytes:
    return expand(epoch.group(round_), t.transcript("pad", context, index))


def box_key(epoch: Epoch, context: bytes, owner: int, holder: int, round_: int) -> bytes:
    return expand(epoch.root(owner, holder, round_), t.transcript("box", context, owner, holder))


def box_data(context: bytes, owner: int, holder: int, edges: Sequence[int]) -> bytes:
    return t.transcript("box-data", context, owner, holder, list(edges))


@dataclass
class Attempt:
    epoch: Epoch
    rules: Rules
    round: int
    number: int
    state: bytes
    """H(state_r)"""
    scales: list[int]
    ready: tuple[int, ...]
    cohort: tuple[int, ...]
    silent: tuple[int, ...]
    """of the cohort: gone before they revealed"""
    acking: tuple[int, ...]
    inputs: Mapping[int, Input]
    label: str
    minimum: Mapping[int, int] = field(default_factory=dict)
    receipts: list[Said] = field(default_factory=list)
    aborts: list[Said] = field(default_factory=list)
    void: Said | None = None

    def __post_init__(self) -> None:
        epoch, rules = self.epoch, self.rules
        self.code = rules.code(epoch)
        self.q = quorums(epoch.n)
        self.context = t.context(
            epoch.job, epoch.number, epoch.roster_hash, self.ready, self.round, self.number, self.state
        )
        self.gone = tuple(index for index in self.ready if index not in self.cohort)
        self.blinders = self.ready[: len(self.ready) - self.q.m + 1] if rules.blind else ()
        self.tag_key = tag_key(epoch, self.context, self.round)
        self.pads = {index: pad_seed(epoch, self.context, index, self.round) for index in self.ready}
        self.readies = [self._ready(index) for index in self.ready]
        self.announcement: Said = {
            "epoch": epoch.number, "round": self.round, "attempt": self.number, "readies": self.readies,
            "receipts": self.receipts, "aborts": self.aborts, "void": self.void,
        }  # fmt: skip
        self.drawn = {
            i: Drawn.of(f"{self.label}/{epoch.members[i - 1].id}", len(self.ready), self.q.t) for i in self.ready
        }
        self.updates: dict[int, Update] = {}
        self.shares: dict[int, list[dict[int, bytes]]] = {}
        self.uploads: dict[int, Said] = {}
        for index in self.ready:
            self._upload(index)
        self.survivors: Said = {"context": self.context, "entries": [self._entry(index) for index in self.cohort]}
        self.survivors_digest = t.survivors_hash(self.survivors)
        self.acks = [self._ack(index) for index in self.acking]
        self.certificate: Said = {"survivors": self.survivors, "acks": self.acks}
        self.reveals = {index: self._reveal(index) for index in self.cohort if index not in self.silent}
        self.recovers: dict[tuple[int, int], Said] = {}
        self.replies: dict[tuple[int, int], Said] = {}
        for owner in self.silent:
            for holder in range(1, epoch.n + 1):
                if holder != owner and holder not in self.silent:
                    self._recover(owner, holder)
        self.seeds = {index: self._seeds(index) for index in self.cohort}
        self.masks: list[Mask] = [
            (seed, +1 if 0 < peer < owner else -1)
            for owner, known in self.seeds.items()
            for peer, seed in known.items()
        ]
        self.sum = sums.unmasked(self.code, [self.updates[index].data for index in self.cohort], self.masks)
        self.close: Said = {
            "round": self.round, "context": self.context, "survivors_digest": self.survivors_digest,
            "sum_blob": hashlib.sha256(self.sum).digest(), "sum_size": len(self.sum), "certificate": self.certificate,
        }  # fmt: skip

    # ---------------------------------------------------------------------------------------------------- what is said

    def _sign(self, index: int, said: Said, text: bytes) -> Said:
        return signed(said, self.epoch.members[index - 1], text)

    def _ready(self, index: int) -> Said:
        said = {
            "index": index, "epoch": self.epoch.number, "round": self.round, "attempt": self.number,
            "state_digest": self.state, "min_cohort": self.minimum.get(index, self.q.m),
        }  # fmt: skip
        return self._sign(index, said, t.ready_text(self.epoch.job, self.epoch.roster_hash, said))

    def edges(self, index: int) -> list[int]:
        return [peer for peer in self.ready if peer != index]

    def holders(self, index: int) -> list[int]:
        return [peer for peer in range(1, self.epoch.n + 1) if peer != index]

    def secrets(self, index: int) -> list[tuple[int, bytes]]:
        """(0, b), then (peer, s) of each edge."""
        pairs = [(peer, mask_seed(self.epoch, self.context, index, peer, self.round)) for peer in self.edges(index)]
        return [(0, self.drawn[index].self_seed), *pairs]

    def masks_of(self, index: int) -> list[Mask]:
        """What a member adds: b, its pairs, and its blind mask if it is one of those who blind."""
        found: list[Mask] = [(self.drawn[index].self_seed, +1)]
        found += [(seed, +1 if peer > index else -1) for peer, seed in self.secrets(index)[1:]]
        if index in self.blinders:
            found.append((blind_seed(self.epoch, self.context, index, self.round), +1))
        return found

    def _upload(self, index: int) -> None:
        given, own = self.inputs[index], self.drawn[index]
        made = update(
            self.code, given.difference, self.scales, self.epoch.members[index - 1].weight, given.squared_norm, given.figures,
            own.dither, self.masks_of(index), self.tag_key, self.pads[index],
        )  # fmt: skip
        edges, holders, secrets = self.edges(index), self.holders(index), self.secrets(index)
        shares = [
            shamir.split(secret, terms, holders) for (_, secret), terms in zip(secrets, own.coefficients, strict=True)
        ]
        said: Said = {
            "index": index,
            "context": self.context,
            "root": merkle.root(made.chunks),
            "boxes": [
                {
                    "holder": holder,
                    "ciphertext": seal(
                        box_key(self.epoch, self.context, index, holder, self.round),
                        b"".join(each[holder] for each in shares),
                        box_data(self.context, index, holder, edges),
                    ),
                }
                for holder in holders
            ],
            "edges": edges,
            "secret_hashes": [t.digest("secret", self.context, index, peer, secret) for peer, secret in secrets],
            "share_hashes": [
                t.digest("share", self.context, index, holder, peer, each[holder])
                for holder in holders
                for (peer, _), each in zip(secrets, shares, strict=True)
            ],
        }
        self.updates[index], self.shares[index] = made, shares
        text = t.upload_text(self.context, index, said["root"], t.trailer_hash(said))
        self.uploads[index] = self._sign(index, said, text)

    def _entry(self, index: int) -> Said:
        upload = self.uploads[index]
        return {
            "index": index, "root": upload["root"], "trailer_hash": t.trailer_hash(upload), "signature": upload["signature"],
        }  # fmt: skip

    def _ack(self, index: int) -> Said:
        said = {"index": index, "context": self.context, "survivors_digest": self.survivors_digest}
        return self._sign(index, said, t.ack_text(said))

    def _reveal(self, index: int) -> Said:
        known = dict(self.secrets(index))
        edges = [{"peer": peer, "seed": known[peer]} for peer in self.gone]
        said = {"index": index, "context": self.context, "self_seed": known[0], "edges": edges}
        return self._sign(index, said, t.reveal_text(said))

    def _recover(self, owner: int, holder: int) -> None:
        box = next(box for box in self.uploads[owner]["boxes"] if box["holder"] == holder)
        edges = self.edges(owner)
        self.recovers[owner, holder] = {
            "certificate": self.certificate, "owner": owner, "edges": edges, "box": box["ciphertext"],
        }  # fmt: skip
        key = box_key(self.epoch, self.context, owner, holder, self.round)
        plain = unseal(key, box["ciphertext"], box_data(self.context, owner, holder, edges))
        assert plain is not None
        held = dict(zip([0, *edges], [plain[at : at + 33] for at in range(0, len(plain), 33)], strict=True))
        shares = [{"peer": peer, "value": held[peer]} for peer in (0, *self.gone)]
        said = {"index": holder, "context": self.context, "owner": owner, "shares": shares}
        self.replies[owner, holder] = self._sign(holder, said, t.recover_text(said))

    def _seeds(self, owner: int) -> dict[int, bytes]:
        if owner in self.reveals:
            reveal = self.reveals[owner]
            return {0: reveal["self_seed"], **{each["peer"]: each["seed"] for each in reveal["edges"]}}
        answers = [self.replies[owner, holder] for holder in self.holders(owner) if (owner, holder) in self.replies]
        found = {}
        for column, peer in enumerate((0, *self.gone)):
            seed = shamir.rebuild({each["index"]: each["shares"][column]["value"] for each in answers[: self.q.t]})
            assert seed == dict(self.secrets(owner))[peer]
            found[peer] = seed
        return found

    # --------------------------------------------------------------------------------------------------- what follows

    @property
    def parameters(self) -> int:
        return len(next(iter(self.inputs.values())).difference)

    @property
    def weight(self) -> int:
        return sum(self.epoch.members[index - 1].weight for index in self.cohort)

    @property
    def blinds(self) -> list[bytes]:
        """On the published sum, for members to take off."""
        return [
            blind_seed(self.epoch, self.context, index, self.round) for index in self.cohort if index in self.blinders
        ]

    def opened(self, data: bytes | None = None) -> sums.Sum:
        """Raises sums.Refused."""
        pads = [self.pads[index] for index in self.cohort]
        found = self.sum if data is None else data
        return sums.opened(self.code, found, self.parameters, self.blinds, self.tag_key, pads, self.weight)

    def plain_sum(self) -> sums.Sum:
        """Without any mask: what the sum must be. The words of the MAC are left out."""
        made = [self.updates[index] for index in self.cohort]
        chunks = [
            [sum(column) for column in zip(*chunk, strict=True)]
            for chunk in zip(*(each.levels for each in made), strict=True)
        ]
        return sums.Sum(chunks, [sum(column) for column in zip(*(each.header[:-4] for each in made), strict=True)])

    def abort(self, index: int) -> Said:
        said = {"index": index, "epoch": self.epoch.number, "round": self.round, "attempt": self.number}
        return self._sign(index, said, t.abort_text(self.epoch.job, self.epoch.roster_hash, said))

    def receipt(self, index: int, following: bytes) -> Said:
        total = self.opened()
        said = {
            "index": index, "epoch": self.epoch.number, "round": self.round, "context": self.context,
            "survivors_digest": self.survivors_digest, "state_digest": following, "figures": total.header[3:-4],
        }  # fmt: skip
        return self._sign(index, said, t.receipt_text(self.epoch.job, self.epoch.roster_hash, said))


def majority(n: int, candidates: Collection[int]) -> tuple[int, ...]:
    """The first q of them."""
    return tuple(sorted(candidates))[: quorums(n).q]
