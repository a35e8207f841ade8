"""Attacks 11 and 37: a certificate and ABORTs of one attempt, over all counts for each kind of answer, n = 3 to 10.

The certificate is good: q and more have acknowledged its cohort. Then each honest member REVEALs, or answers RECOVER, or signs the
ABORT, or is silent, whichever it is asked first; and whatever it is asked afterwards. A member's answer depends on what it was
asked and on nothing else, so each machine is run once for each kind, and every count is put together from the answers, with the
members in a random order. Whoever is on the coordinator's side answers everything.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from federation.errors import ProtocolViolation
from federation.secagg import shamir, transcripts
from federation.secagg.events import AbortRequest, Contribute, From, Reopen
from federation.secagg.messages import Abort, Certificate, Ready, Recover, RecoverReply, Reveal, Upload, Void
from federation.secagg.parameters import Quorums
from federation.secagg.suite import STANDARD
from tests.attacks.test_every_split import Answers
from tests.simulation.harness import INITIAL, JOB, World

KINDS = ("reveal", "recover", "abort", "silent")


class After:
    """What each member has said when the coordinator has asked it for everything, by what it was asked first."""

    def __init__(self, n: int, smallest: bool, **changes: Any) -> None:
        self.made = Answers(n, **changes)
        self.quorums = self.made.quorums
        self.everyone = tuple(range(1, n + 1))
        size = self.quorums.m if smallest else n
        self.cohort = self.everyone[:size]
        shop = self.made.shop
        self.certificate = shop.certificate(self.cohort, self.everyone)
        self.uploads: dict[int, Upload] = {
            index: next(m for m in self.made.lab(index).sent if isinstance(m, Upload)) for index in self.everyone
        }
        self.said = {(index, kind): self._asked(index, kind) for index in self.everyone for kind in KINDS}

    def recover(self, holder: int, owner: int) -> Recover:
        trailer = self.uploads[owner].trailer
        box = next(each.ciphertext for each in trailer.boxes if each.holder == holder)
        return Recover(self.certificate, owner, trailer.edges, box)

    def _asked(self, index: int, kind: str) -> list[Any]:
        """The answers that leave the member. Who stays silent says nothing to anything."""
        if kind == "silent":
            return []
        asked: list[Any] = [self.certificate, AbortRequest(1, 1, 0)]
        asked += [self.recover(index, owner) for owner in self.cohort if owner != index]
        first = {"reveal": 0, "abort": 1, "recover": 2}[kind]
        asked.insert(0, asked.pop(first))
        self.made.fresh(index)
        self.made.answer(index, self.certificate.survivors)
        return [said for each in asked if (said := self.made.answer(index, each)) is not None]


@cache
def after(n: int, smallest: bool) -> After:
    return After(n, smallest)


def counts(members: int) -> Iterator[tuple[int, int, int, int]]:
    for reveal in range(members + 1):
        for recover in range(members - reveal + 1):
            for abort in range(members - reveal - recover + 1):
                yield reveal, recover, abort, members - reveal - recover - abort


def kinds_of(members: list[int], count: tuple[int, ...]) -> dict[int, str]:
    each = [kind for kind, times in zip(KINDS, count, strict=True) for _ in range(times)]
    return dict(zip(members, each, strict=True))


@pytest.mark.parametrize("smallest", [False, True], ids=["all of n", "the smallest cohort"])
@pytest.mark.parametrize("n", range(3, 11))
def test_certificate_and_abort_of_one_attempt_leave_the_sum_closed(n: int, smallest: bool) -> None:
    made = after(n, smallest)
    f, q, t = made.quorums.f, made.quorums.q, made.quorums.t
    dice = random.Random(n)
    aborted = opened = 0
    for count in counts(n - f):
        members = list(made.everyone)
        dice.shuffle(members)
        liars, honest = members[:f], members[f:]
        kinds = kinds_of(honest, count)
        said = [message for index, kind in kinds.items() for message in made.said[index, kind]]
        aborts = {message.index for message in said if isinstance(message, Abort)}
        revealed = {message.index for message in said if isinstance(message, Reveal)}
        replies = [message for message in said if isinstance(message, RecoverReply)]
        assert not aborts & (revealed | {reply.index for reply in replies}), "one or the other"
        closed = [
            owner
            for owner in made.cohort
            if owner not in liars
            and owner not in revealed
            and len({reply.index for reply in replies if reply.owner == owner} | set(liars)) < t
        ]
        if len(aborts) + f >= q:
            aborted += 1
            assert closed, (count, liars)
        opened += not closed
    assert aborted, "the counts reach q ABORTs"
    assert opened, "and, in others, the sum"


@pytest.mark.parametrize("n", [4, 7])
def test_a_sample_of_counts_with_the_real_ciphers(n: int) -> None:
    """The seed of an honest member that signed the ABORT cannot be rebuilt from what q ABORTs leave, and can from one share
    more."""
    made = After(n, False, suite=STANDARD)
    f, q, t = made.quorums.f, made.quorums.q, made.quorums.t
    honest = made.everyone[f:]
    aborting, willing = honest[: q - f], honest[q - f :]
    owner = aborting[0]
    upload = made.uploads[owner]
    shares = {}
    for holder in (*willing, *made.everyone[:f]):  # a colluder would say what it holds in any case
        said = made.said[holder, "recover"]
        reply = next(each for each in said if isinstance(each, RecoverReply) and each.owner == owner)
        shares[holder] = reply.shares[0][1]
    assert not [each for each in made.said[aborting[1], "abort"] if isinstance(each, RecoverReply | Reveal)]

    def rebuilt(found: dict[int, bytes]) -> bool:
        try:
            seed = shamir.rebuild(found)
        except ProtocolViolation:  # no 32-byte value
            return False
        return transcripts.secret_hash(upload.context, owner, 0, seed) == upload.trailer.secret_hashes[0]

    assert len(shares) == t - 1
    assert not rebuilt(shares)
    more = next(
        each for each in made.said[aborting[1], "recover"] if isinstance(each, RecoverReply) and each.owner == owner
    )
    assert rebuilt({**shares, aborting[1]: more.shares[0][1]})


@pytest.mark.parametrize("n", range(3, 11))
def test_split_ack_abort_and_reveal_end_in_an_abort_or_in_the_next_attempt_bound_to_the_cohort(n: int) -> None:
    """Attack 37: faults alone. Whatever the counts, q ABORTs open the next attempt for everybody, or the certificate opens it for
    its cohort, and then for nobody else."""
    made = after(n, True)
    shop, q = made.made.shop, made.quorums.q
    void = Void(0, made.everyone, Certificate(made.certificate.survivors, made.certificate.acks[:q]))
    bound = replace(shop.announcement(made.cohort, 1, 1, INITIAL), void=void)
    freed = shop.announcement(made.everyone, 1, 1, INITIAL, aborts=made.everyone[:q])
    takes: dict[tuple[int, str], bool] = {}
    frees: dict[tuple[int, str], bool] = {}
    for index in made.everyone:
        for kind in KINDS:
            made._asked(index, kind)  # whoever was silent is back, and has only acknowledged
            if kind == "silent":
                made.made.fresh(index)
                made.made.answer(index, made.certificate.survivors)
            if index in made.cohort:
                ready = made.made.answer(index, Reopen(1, 1, void))
                assert isinstance(ready, Ready)
                assert ready.attempt == 1
            takes[index, kind] = contributes(made, index, bound)
            if index in made.cohort and n > made.quorums.m:
                assert made.made.answer(index, freed) == "second-announcement"
            made._asked(index, kind)
            frees[index, kind] = contributes(made, index, freed)
    abort_route = void_route = 0
    dice = random.Random(n)
    for count in counts(n):
        members = list(made.everyone)
        dice.shuffle(members)
        kinds = kinds_of(members, count)
        if count[2] + count[3] >= q:  # those that aborted, and those that are back and may
            abort_route += 1
            assert all(frees[index, kind] for index, kind in kinds.items() if kind != "silent")
        else:
            void_route += 1
            assert all(takes[index, kind] == (index in made.cohort) for index, kind in kinds.items())
    assert abort_route
    assert void_route


def contributes(made: After, index: int, announcement: Any) -> bool:
    return any(isinstance(each, Contribute) for each in made.made.shop.tell(index, announcement))


@pytest.mark.parametrize("first", ["Reveal", "RecoverReply"])
def test_who_signs_the_abort_after_it_has_released_is_named_with_both_signatures(first: str) -> None:
    world = World(5, rounds=1)
    if first == "RecoverReply":
        world.kill_before.add(("m1", "Reveal"))
        world.tamper = lambda member, message: (
            None if member in ("m3", "m4", "m5") and isinstance(message, RecoverReply) else message
        )
    else:
        world.tamper = lambda member, message: None if member == "m1" and isinstance(message, Reveal) else message
    world.begin().run(
        until=lambda world: (
            any(type(m).__name__ == first for m in world.labs["m2"].sent) and world.collector.phase == "revealing"
        )
    )
    bench = world.collector.bench
    assert bench is not None
    for name in ("m2", "m5"):
        index = int(name[1:])
        abort = Abort(index, 1, 1, 0, b"")
        text = transcripts.abort_transcript(JOB, bench.roster_hash, abort)
        abort = replace(abort, signature=world.labs[name].signer(text))
        if name == "m2":
            unsigned = replace(abort, signature=bytes(64))
            world.tell_collector(From(name, unsigned))
            assert [each.violation.check for each in world.misconduct] == ["signature"]
            world.misconduct.clear()
        else:
            world.collector._book.reveals.pop(5, None)
            world.collector._book.replies.clear()
        world.tell_collector(From(name, abort))
    (found,) = world.misconduct
    assert (found.member, found.violation.check, found.proof) == ("m2", "abort-after-release", True)
    kinds = ("Reveal", "RecoverReply")
    released = next(m for m in world.labs["m2"].sent if type(m).__name__ in kinds)
    assert released.signature in found.violation.evidence
    assert "m2" in world.collector._book.convicted


def test_the_numbers_behind_it() -> None:
    for n in range(3, 201):
        quorums = Quorums.of(n)
        assert 2 * quorums.q - n > quorums.f
        assert quorums.q <= min(n - quorums.f, quorums.m)
        assert quorums.t > quorums.f
        assert quorums.q - quorums.f + quorums.m > n, "q ABORTs hold an honest member of every cohort"
        assert n - quorums.q + quorums.f < quorums.t, "and leave too few holders for its seed"
