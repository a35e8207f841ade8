"""From key messages to a bench of seats: every check of the roster, the same for members and collector.

Work starts only with n-of-n signatures on one roster hash. Later joiners come in at the next epoch, with a roster of
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from federation.errors import FederationError, ProtocolViolation
from federation.secagg import transcripts
from federation.secagg.certificate import Bench, Verify, violation
from federation.secagg.messages import KeyMessage, RosterSignature, Seat
from federation.secagg.parameters import MAX_MEMBERS, MIN_MEMBERS, Terms


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
    """One place. Raises ProtocolViolation when the credential, the signature, the key or the weight is not good."""
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
        raise violation("key-signature", f"The exchange key of {credential.member} is not signed by its node.")
    if not 1 <= message.weight <= terms.weight_cap or message.weight & (message.weight - 1):
        raise violation("weight", f"The weight of {credential.member} is not a power of two within the job's cap.")
    return Seat(
        index=index,
        member=credential.member,
        node=credential.node,
        jurisdiction=credential.jurisdiction,
        identity_key=credential.identity_key,
        exchange_key=message.exchange_key,
        weight=message.weight,
    )


def bench_of(
    terms: Terms,
    epoch: int,
    formation: int,
    keys: Sequence[KeyMessage],
    verify_credential: VerifyCredential,
    verify: Verify,
) -> Bench:
    """The seats of a roster, in its order: sorted by member, nobody and no key twice, enough members and
    jurisdictions."""
    if not max(MIN_MEMBERS, terms.min_members) <= len(keys) <= MAX_MEMBERS:
        raise violation("roster-size", f"A roster of {len(keys)} is not what the job allows.")
    seats = []
    for index, message in enumerate(keys, start=1):
        if (message.epoch, message.formation) != (epoch, formation):
            raise violation("formation", f"Place {index} of the roster holds a key of another formation.")
        seats.append(seat_of(terms, message, index, verify_credential, verify))
    names = [seat.member for seat in seats]
    if names != sorted(names):
        raise violation("roster-order", "The roster is not sorted by member.")
    columns: tuple[tuple[str, list[str | bytes]], ...] = (
        ("member", [seat.member for seat in seats]),
        ("identity key", [seat.identity_key for seat in seats]),
        ("exchange key", [seat.exchange_key for seat in seats]),
    )
    for what, values in columns:
        twice = sorted({seat.member for seat, value in zip(seats, values, strict=True) if values.count(value) > 1})
        if twice:
            raise violation("duplicate", f"The roster holds one {what} twice: {', '.join(twice)}.")
    if len({seat.jurisdiction for seat in seats}) < terms.min_jurisdictions:
        raise violation("jurisdictions", f"The roster covers fewer than {terms.min_jurisdictions} jurisdictions.")
    return Bench(
        job=terms.job,
        epoch=epoch,
        roster_hash=transcripts.roster_hash(terms.job, epoch, formation, keys),
        seats=tuple(seats),
        verify=verify,
    )


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
