"""From key messages to a bench of seats: every check of a roster, the same for members, collector and strangers.

An epoch stands only with n-of-n signatures on one roster hash and n-of-n confirmations of one group key and one beacon.
A later epoch names the roster hash of the one before. (docs/protocol/secure-aggregation.md, "Setup".)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from federation.errors import FederationError, ProtocolViolation
from federation.secagg import transcripts
from federation.secagg.certificate import Bench, Verify, violation
from federation.secagg.messages import Confirmation, Encapsulation, KeyMessage, RosterSignature, Seat
from federation.secagg.parameters import MAX_MEMBERS, MIN_MEMBERS, Terms

FIRST_EPOCH: Final = 1
GENESIS: Final = bytes(32)
"""the predecessor of the first epoch"""


class Credential(Protocol):
    """What ``federation.identity`` says about a credential that is signed by an officer on the roll."""

    @property
    def member(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def jurisdiction(self) -> str: ...
    @property
    def identity_key(self) -> bytes: ...


VerifyCredential = Callable[[bytes], Credential]


def seat_of(terms: Terms, message: KeyMessage, index: int, verify_credential: VerifyCredential, verify: Verify) -> Seat:
    """One place. Raises ProtocolViolation when the credential, the signature, the keys or the weight is not good."""
    try:
        credential = verify_credential(message.credential)
    except ProtocolViolation:
        raise
    except FederationError as error:
        raise violation(
            "credential",
            f"Place {index} of the roster holds a credential that no officer on the roll signed: {error.message}",
            evidence=message.credential,
        ) from error
    if not verify(credential.identity_key, transcripts.key_transcript(terms.job, message), message.signature):
        raise violation("key-signature", f"The exchange keys of {credential.member} are not signed by its node.")
    if not 1 <= message.weight <= terms.weight_cap or message.weight & (message.weight - 1):
        raise violation("weight", f"The weight of {credential.member} is not a power of two within the job's cap.")
    return Seat(
        index=index,
        member=credential.member,
        node=credential.node,
        jurisdiction=credential.jurisdiction,
        identity_key=credential.identity_key,
        exchange_key=message.exchange_key,
        kem_key=message.kem_key,
        nonce_hash=message.nonce_hash,
        group_hash=message.group_hash,
        weight=message.weight,
    )


def seats_of(
    terms: Terms,
    epoch: int,
    formation: int,
    predecessor: bytes,
    keys: Sequence[KeyMessage],
    verify_credential: VerifyCredential,
    verify: Verify,
) -> tuple[Seat, ...]:
    """The seats of a roster, in its order: sorted by member, nobody and nothing twice, enough members and
    jurisdictions."""
    if (predecessor == GENESIS) != (epoch == FIRST_EPOCH):
        raise violation("predecessor", "Only the first epoch has no predecessor.")
    if not max(MIN_MEMBERS, terms.min_members) <= len(keys) <= MAX_MEMBERS:
        raise violation("roster-size", f"A roster of {len(keys)} is not what the job allows.")
    seats = []
    for index, message in enumerate(keys, start=1):
        if (message.epoch, message.formation, message.predecessor) != (epoch, formation, predecessor):
            raise violation("formation", f"Place {index} of the roster holds keys of another formation.")
        seats.append(seat_of(terms, message, index, verify_credential, verify))
    names = [seat.member for seat in seats]
    if names != sorted(names):
        raise violation("roster-order", "The roster is not sorted by member.")
    columns: tuple[tuple[str, list[str | bytes]], ...] = (
        ("member", [seat.member for seat in seats]),
        ("identity key", [seat.identity_key for seat in seats]),
        ("exchange key", [seat.exchange_key for seat in seats]),
        ("encapsulation key", [seat.kem_key for seat in seats]),
        ("nonce", [seat.nonce_hash for seat in seats]),
        ("part of the group key", [seat.group_hash for seat in seats]),
    )
    for what, values in columns:
        twice = sorted({seat.member for seat, value in zip(seats, values, strict=True) if values.count(value) > 1})
        if twice:
            raise violation("duplicate", f"The roster holds one {what} twice: {', '.join(twice)}.")
    if len({seat.jurisdiction for seat in seats}) < terms.min_jurisdictions:
        raise violation("jurisdictions", f"The roster covers fewer than {terms.min_jurisdictions} jurisdictions.")
    return tuple(seats)


def check_encapsulation(
    job: bytes, seats: Sequence[Seat], keys_hash: bytes, message: Encapsulation, verify: Verify
) -> None:
    if not 1 <= message.index <= len(seats):
        raise violation("stranger", f"An encapsulation names place {message.index}, which the roster does not have.")
    seat = seats[message.index - 1]
    if message.keys_hash != keys_hash:
        raise violation("two-rosters", f"{seat.member} encapsulated for another list of keys.")
    if len(message.hashes) != len(seats) - message.index:
        raise violation("encapsulation", f"{seat.member} encapsulated for too few or too many members.")
    if not verify(seat.identity_key, transcripts.encapsulation_transcript(job, message), message.signature):
        raise violation("signature", f"An encapsulation is not signed by {seat.member}.")


def bench_of(
    terms: Terms,
    epoch: int,
    formation: int,
    keys: Sequence[KeyMessage],
    encapsulations: Sequence[Encapsulation],
    verify_credential: VerifyCredential,
    verify: Verify,
) -> Bench:
    """All of a roster but its signatures. Raises ProtocolViolation."""
    predecessor = keys[0].predecessor if keys else GENESIS
    seats = seats_of(terms, epoch, formation, predecessor, keys, verify_credential, verify)
    keys_hash = transcripts.keys_hash(terms.job, keys)
    if [each.index for each in encapsulations] != [seat.index for seat in seats]:
        raise violation("encapsulation", "Not every member of the roster has encapsulated.")
    for each in encapsulations:
        check_encapsulation(terms.job, seats, keys_hash, each, verify)
    return Bench(
        job=terms.job,
        epoch=epoch,
        roster_hash=transcripts.roster_hash(terms.job, keys_hash, encapsulations),
        predecessor=predecessor,
        seats=seats,
        verify=verify,
    )


def check_successor(bench: Bench, before: Bench) -> None:
    """Enough members of the epoch before are in the new one to vouch for where the job stands: q of the old roster,
    by identity key, and more than the new roster's f."""
    if (bench.predecessor, bench.epoch) != (before.roster_hash, before.epoch + 1):
        raise violation("predecessor", "The roster follows another epoch than the one that this job is in.")
    kept = kept_seats(bench, before)
    needed = max(before.quorums.q, bench.quorums.f + 1)
    if len(kept) < needed:
        raise violation(
            "successor",
            f"Only {len(kept)} members of epoch {before.epoch} are in the next roster; it takes {needed}.",
            hint="The job waits until more of its members are connected.",
        )


def kept_seats(bench: Bench, before: Bench) -> tuple[int, ...]:
    """Places in ``bench`` of the members that were in the epoch before."""
    known = {(seat.member, seat.identity_key) for seat in before.seats}
    return tuple(seat.index for seat in bench.seats if (seat.member, seat.identity_key) in known)


def check_roster_certificate(
    bench: Bench, epoch: int, roster_hash: bytes, signatures: Sequence[RosterSignature]
) -> None:
    """n of n, on the roster hash that we computed ourselves."""
    if (epoch, roster_hash) != (bench.epoch, bench.roster_hash):
        raise violation("two-rosters", "The roster's certificate is for another roster than the one we signed.")
    if [signature.index for signature in signatures] != [seat.index for seat in bench.seats]:
        raise violation("roster-signatures", "Not every member of the roster has signed it.")
    for signature in signatures:
        bench.check_roster_signature(signature)


def check_confirmations(bench: Bench, epoch: int, roster_hash: bytes, confirmations: Sequence[Confirmation]) -> None:
    """n of n, and all made the same beacon and the same group key."""
    if (epoch, roster_hash) != (bench.epoch, bench.roster_hash):
        raise violation("two-rosters", "The confirmations are for another roster than the one we signed.")
    if [each.index for each in confirmations] != [seat.index for seat in bench.seats]:
        raise violation("confirmations", "Not every member of the roster has confirmed its keys.")
    for each in confirmations:
        bench.check_confirmation(each)
        if (each.beacon, each.group_hash) != (confirmations[0].beacon, confirmations[0].group_hash):
            raise violation("group-key", f"Member {each.index} made another group key or beacon than the others.")
