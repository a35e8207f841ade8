"""Page: "Setup": an epoch of honest members, from their secrets to n confirmations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.plain import transcripts as t
from tests.plain.ciphers import agree, decapsulate, drawn, expand, hkdf, identity, public_keys, seal, sign
from tests.plain.kem import encapsulate

Said = dict[str, Any]
GENESIS = bytes(32)


@dataclass(frozen=True)
class Member:
    id: str
    seed: bytes
    """of its node's Ed25519 identity key"""
    credential: bytes
    """opaque to this page"""
    private: bytes
    """96 bytes: X25519 scalar, ML-KEM-768 seed"""
    nonce: bytes
    part: bytes
    weight: int

    @staticmethod
    def of(label: str, id_: str, weight: int) -> Member:
        """What it draws follows from ``label``, in the order in which the product draws: 96, 32 and 32 bytes of one stream."""
        stream = drawn(f"{label}/{id_}/setup", 160)
        return Member(
            id_, drawn(f"identity/{id_}", 32), f"credential of {id_}".encode(), stream[:96], stream[96:128], stream[128:],
            weight,
        )  # fmt: skip

    @property
    def identity(self) -> bytes:
        return identity(self.seed)


@dataclass(frozen=True)
class Epoch:
    job: bytes
    number: int
    formation: int
    predecessor: bytes
    members: tuple[Member, ...]
    """sorted by id; a place, from 1, is the index"""
    keys: list[Said]
    keys_hash: bytes
    encapsulations: list[Said]
    """as they are sent, with ciphertexts"""
    kem_secrets: dict[tuple[int, int], bytes]
    """(lower, higher) index"""
    roster_hash: bytes
    signatures: list[Said]
    roots: dict[tuple[int, int], bytes]
    """K_ij of round 1, (lower, higher) index"""
    openings: list[Said]
    """as they are sent, with a box for each other member"""
    beacon: bytes
    group_key: bytes
    """KG of round 1"""
    confirmations: list[Said]

    @property
    def n(self) -> int:
        return len(self.members)

    @property
    def unit(self) -> int:
        return max(member.weight for member in self.members)

    def root(self, one: int, other: int, round_: int) -> bytes:
        return ratcheted(self.roots[min(one, other), max(one, other)], round_)

    def group(self, round_: int) -> bytes:
        return ratcheted(self.group_key, round_)

    def sign(self, index: int, text: bytes) -> bytes:
        return sign(self.members[index - 1].seed, text)

    # what the coordinator tells

    def form(self) -> Said:
        return {"epoch": self.number, "formation": self.formation, "predecessor": self.predecessor}

    def candidates(self) -> Said:
        return {"epoch": self.number, "formation": self.formation, "keys": self.keys}

    def roster(self, receiver: int) -> Said:
        """``receiver`` 0: for nobody in particular, without ciphertexts."""
        stripped = [{**each, "ciphertexts": []} for each in self.encapsulations]
        own = [
            each["ciphertexts"][receiver - each["index"] - 1] for each in self.encapsulations[: max(receiver - 1, 0)]
        ]
        return {**self.candidates(), "encapsulations": stripped, "ciphertexts": own}

    def certificate(self) -> Said:
        return {"epoch": self.number, "roster_hash": self.roster_hash, "signatures": self.signatures}

    def opened_for(self, receiver: int) -> Said:
        held = [
            {**each, "boxes": [box for box in each["boxes"] if box["holder"] == receiver]} for each in self.openings
        ]
        return {"epoch": self.number, "roster_hash": self.roster_hash, "openings": held}

    def confirmed(self) -> Said:
        return {"epoch": self.number, "roster_hash": self.roster_hash, "confirmations": self.confirmations}


def ratcheted(key: bytes, round_: int) -> bytes:
    for number in range(2, round_ + 1):
        key = expand(key, t.transcript("ratchet", number))
    return key


def encapsulation_draw(low: str, high: str) -> bytes:
    return drawn(f"encapsulation/{low}/{high}", 32)


def signed(said: Said, signer: Member, text: bytes) -> Said:
    return {**said, "signature": sign(signer.seed, text)}


def part_key(root: bytes, owner: int, holder: int) -> bytes:
    return expand(root, t.transcript("part", owner, holder))


def epoch_of(
    job: bytes, members: Sequence[Member], number: int = 1, formation: int = 0, predecessor: bytes = GENESIS
) -> Epoch:
    members = tuple(sorted(members, key=lambda member: member.id))
    n = len(members)
    keys: list[Said] = []
    for member in members:
        exchange, kem = public_keys(member.private)
        key = {
            "epoch": number,
            "formation": formation,
            "predecessor": predecessor,
            "credential": member.credential,
            "exchange_key": exchange,
            "kem_key": kem,
            "nonce_hash": t.digest("nonce", job, member.id, member.nonce),
            "group_hash": t.digest("group-part", job, member.id, member.part),
            "weight": member.weight,
        }
        keys.append(signed(key, member, t.key_text(job, key)))
    keys_hash = t.keys_hash(job, keys)
    encapsulations: list[Said] = []
    secrets: dict[tuple[int, int], bytes] = {}
    for i, member in enumerate(members, start=1):
        ciphertexts = []
        for j in range(i + 1, n + 1):
            draw = encapsulation_draw(member.id, members[j - 1].id)
            secrets[i, j], ciphertext = encapsulate(keys[j - 1]["kem_key"], draw)
            ciphertexts.append(ciphertext)
        hashes = [
            t.digest("ciphertext", keys_hash, i, j, ciphertext) for j, ciphertext in enumerate(ciphertexts, start=i + 1)
        ]
        said = {"index": i, "keys_hash": keys_hash, "hashes": hashes, "ciphertexts": ciphertexts}
        encapsulations.append(signed(said, member, t.encapsulation_text(job, said)))
    roster = t.roster_hash(job, keys_hash, encapsulations)
    roots = {}
    for (i, j), secret in secrets.items():
        agreed = agree(members[i - 1].private, keys[j - 1]["exchange_key"])
        assert agreed == agree(members[j - 1].private, keys[i - 1]["exchange_key"])
        assert secret == decapsulate(members[j - 1].private, encapsulations[i - 1]["ciphertexts"][j - i - 1])
        roots[i, j] = hkdf(agreed + secret, roster, t.transcript("pair", i, j))
    signatures = []
    openings = []
    for i, member in enumerate(members, start=1):
        said = {"index": i, "roster_hash": roster}
        signatures.append(signed(said, member, t.roster_text(job, number, said)))
        boxes = [
            {
                "holder": j,
                "ciphertext": seal(
                    part_key(roots[min(i, j), max(i, j)], i, j), member.part, t.transcript("part-data", roster, i, j)
                ),
            }
            for j in range(1, n + 1)
            if j != i
        ]
        said = {"index": i, "roster_hash": roster, "nonce": member.nonce, "boxes": boxes}
        openings.append(signed(said, member, t.opening_text(job, said)))
    group = hkdf(b"".join(member.part for member in members), roster, t.transcript("group"))
    beacon = t.digest("beacon", roster, [member.nonce for member in members])
    confirmations = []
    for i, member in enumerate(members, start=1):
        said = {"index": i, "roster_hash": roster, "beacon": beacon, "group_hash": t.digest("confirm-group", group)}
        confirmations.append(signed(said, member, t.confirmation_text(job, said)))
    return Epoch(
        job, number, formation, predecessor, members, keys, keys_hash, encapsulations, secrets, roster, signatures, roots,
        openings, beacon, group, confirmations,
    )  # fmt: skip
