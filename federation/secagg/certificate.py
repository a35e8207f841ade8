"""What signatures certify: the checks that members and the collector make alike.

Nothing here changes state, and everything raises ProtocolViolation with a stable ``check``. Quorums are counted over n,
never over R_r or U. (docs/protocol/secure-aggregation.md, "Checks".)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from federation.errors import FederationError, ProtocolViolation
from federation.secagg import proof, transcripts
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Certificate,
    Confirmation,
    Opening,
    Ready,
    Receipt,
    RecoverReply,
    Reveal,
    RosterSignature,
    Sealing,
    Seat,
    SurvivorEntry,
    Survivors,
    Upload,
    Void,
)
from federation.secagg.parameters import FIRST_ROUND, Quorums

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> whether it verifies"""

_REMEMBERED = 4096


class Ed25519Verifier:
    """Ed25519, with a bounded memory: the same signature comes back in Survivors, Certificate and Close."""

    def __init__(self) -> None:
        self._good: dict[bytes, None] = {}

    def __call__(self, public: bytes, message: bytes, signature: bytes) -> bool:
        key = hashlib.sha256(public + signature + message).digest()
        if key in self._good:
            return True
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        if len(self._good) >= _REMEMBERED:
            del self._good[next(iter(self._good))]
        self._good[key] = None
        return True


def violation(check: str, text: str, *, hint: str = "", evidence: bytes = b"") -> ProtocolViolation:
    return ProtocolViolation(
        text,
        check=check,
        hint=hint or "Nothing was given away. Report it to the operator and, if it goes on, withdraw from the job.",
        evidence=evidence,
    )


@dataclass(frozen=True, slots=True)
class Announced:
    """A round's attempt as an announcement that passed its checks fixes it."""

    round: int
    attempt: int
    context: bytes
    state_digest: bytes
    ready: tuple[int, ...]
    """R_r"""
    minimum: dict[int, int]
    """m_i of each member of R_r"""
    void: tuple[int, ...] = ()
    """the cohort that a void attempt before this one binds, less the convicted; empty where there is none"""


@dataclass(frozen=True, slots=True)
class Bench:
    """The seats of a certified roster, and who may sign what from them."""

    job: bytes
    epoch: int
    roster_hash: bytes
    predecessor: bytes
    """the roster hash of the epoch before"""
    seats: tuple[Seat, ...]
    verify: Verify

    @property
    def quorums(self) -> Quorums:
        return Quorums.of(len(self.seats))

    @property
    def weight_unit(self) -> int:
        return max(seat.weight for seat in self.seats)

    def weight_of(self, cohort: Sequence[int]) -> int:
        return sum(self.seats[index - 1].weight for index in cohort)

    def _signed(self, index: int, message: bytes, signature: bytes, what: str) -> None:
        if not 1 <= index <= len(self.seats):
            raise violation("stranger", f"{what} names place {index}, which the roster does not have.")
        if not self.verify(self.seats[index - 1].identity_key, message, signature):
            raise violation(
                "signature", f"{what} is not signed by {self.seats[index - 1].member}.", evidence=message + signature
            )

    def _epoch(self, epoch: int, what: str) -> None:
        if epoch != self.epoch:
            raise violation("epoch", f"{what} is of epoch {epoch}, not {self.epoch}.")

    # --------------------------------------------------------------------------------------------------- one signature

    def check_roster_signature(self, message: RosterSignature) -> None:
        if message.roster_hash != self.roster_hash:
            raise violation("two-rosters", "A roster signature is for another roster than ours.")
        text = transcripts.roster_transcript(self.job, self.epoch, message.index, self.roster_hash)
        self._signed(message.index, text, message.signature, "A roster signature")

    def check_opening(self, message: Opening) -> None:
        """The signature, and that the nonce is the one that the roster hash commits to. The boxes show by opening."""
        if message.roster_hash != self.roster_hash:
            raise violation("two-rosters", "An opening is for another roster than ours.")
        text = transcripts.opening_transcript(self.job, message)
        self._signed(message.index, text, message.signature, "An opening")
        seat = self.seats[message.index - 1]
        if transcripts.nonce_hash(self.job, seat.member, message.nonce) != seat.nonce_hash:
            raise violation(
                "nonce",
                f"{seat.member} opens another nonce than it committed to.",
                evidence=text + message.signature,
            )

    def check_confirmation(self, message: Confirmation) -> None:
        if message.roster_hash != self.roster_hash:
            raise violation("two-rosters", "A confirmation is for another roster than ours.")
        text = transcripts.confirmation_transcript(self.job, message)
        self._signed(message.index, text, message.signature, "A confirmation")

    def check_ready(self, ready: Ready) -> None:
        self._epoch(ready.epoch, "A READY")
        text = transcripts.ready_transcript(self.job, self.roster_hash, ready)
        self._signed(ready.index, text, ready.signature, "A READY")
        if not self.quorums.m <= ready.min_cohort:
            raise violation("min-cohort", f"Member {ready.index} lowers the smallest cohort below {self.quorums.m}.")

    def check_receipt(self, receipt: Receipt) -> None:
        self._epoch(receipt.epoch, "A receipt")
        text = transcripts.receipt_transcript(self.job, self.roster_hash, receipt)
        self._signed(receipt.index, text, receipt.signature, "A receipt")

    def check_abort(self, abort: Abort) -> None:
        self._epoch(abort.epoch, "An ABORT")
        text = transcripts.abort_transcript(self.job, self.roster_hash, abort)
        self._signed(abort.index, text, abort.signature, "An ABORT")

    def check_sealing(self, sealing: Sealing, state_digest: bytes, recipients: int) -> None:
        self._epoch(sealing.epoch, "A sealing")
        if sealing.state_digest != state_digest or len(sealing.wrapped) != recipients:
            raise violation("sealing", "A sealing is of another state, or for other recipients.")
        text = transcripts.sealing_transcript(self.job, self.roster_hash, sealing)
        self._signed(sealing.index, text, sealing.signature, "A sealing")

    def check_sealings(self, sealings: Sequence[Sealing], state_digest: bytes, recipients: int) -> bytes:
        """The digest of the sealed file: f + 1 members, so an honest one among them, say that the state is in it."""
        self._sorted([sealing.index for sealing in sealings], "Sealings")
        if len(sealings) <= self.quorums.f:
            raise violation("sealing", f"{len(sealings)} sealings are too few: it takes {self.quorums.f + 1}.")
        for sealing in sealings:
            self.check_sealing(sealing, state_digest, recipients)
            if sealing.sealed_blob != sealings[0].sealed_blob:
                raise violation("sealing", "The sealings are of different files.")
        return sealings[0].sealed_blob

    def check_entry(self, context: bytes, entry: SurvivorEntry) -> None:
        text = transcripts.upload_transcript(context, entry.index, entry.root, entry.trailer_hash)
        self._signed(entry.index, text, entry.signature, "An upload")

    def check_ack(self, ack: Ack) -> None:
        self._signed(ack.index, transcripts.ack_transcript(ack), ack.signature, "An ACK")

    def check_reveal(self, reveal: Reveal) -> None:
        self._signed(reveal.index, transcripts.reveal_transcript(reveal), reveal.signature, "A REVEAL")

    def check_reply(self, reply: RecoverReply) -> None:
        self._signed(reply.index, transcripts.recover_transcript(reply), reply.signature, "A RECOVER reply")

    def check_upload(self, upload: Upload, announced: Announced) -> None:
        """Signature, and the shape of the trailer: edges R_r without i, a box and hashes for each holder."""
        if upload.context != announced.context:
            raise violation("context", "An upload is for another attempt.")
        if upload.index not in announced.ready:
            raise violation("stranger", f"Member {upload.index} uploads without being ready.")
        trailer = upload.trailer
        self.check_entry(
            upload.context,
            SurvivorEntry(upload.index, upload.root, transcripts.trailer_hash(trailer), upload.signature),
        )
        edges = tuple(index for index in announced.ready if index != upload.index)
        holders = tuple(seat.index for seat in self.seats if seat.index != upload.index)
        if (
            trailer.edges != edges
            or tuple(box.holder for box in trailer.boxes) != holders
            or len(trailer.secret_hashes) != 1 + len(edges)
            or len(trailer.share_hashes) != len(holders) * (1 + len(edges))
        ):
            raise violation("trailer", f"The trailer of member {upload.index} has the wrong shape.")

    # ---------------------------------------------------------------------------------------------------------- quorums

    def _sorted(self, indices: Sequence[int], what: str) -> None:
        if list(indices) != sorted(set(indices)):
            raise violation("repeated", f"{what} are not sorted, or name a member twice.")

    def check_receipts(self, receipts: Sequence[Receipt], round_number: int) -> bytes:
        """The digest of state_{round+1} that q receipts for this round sign."""
        self._sorted([receipt.index for receipt in receipts], "Receipts")
        if len(receipts) < self.quorums.q:
            raise violation("receipts", f"{len(receipts)} receipts do not certify a state: it takes {self.quorums.q}.")
        first = receipts[0]
        for receipt in receipts:
            if receipt.round != round_number:
                raise violation("receipts", f"A receipt is of round {receipt.round}, not {round_number}.")
            same = (receipt.context, receipt.survivors_digest, receipt.state_digest, receipt.figures)
            if same != (first.context, first.survivors_digest, first.state_digest, first.figures):
                raise violation("receipts", "The receipts do not agree.")
            self.check_receipt(receipt)
        return first.state_digest

    def check_aborts(self, aborts: Sequence[Abort], round_number: int, attempt: int) -> None:
        self._sorted([abort.index for abort in aborts], "ABORTs")
        if len(aborts) < self.quorums.q:
            raise violation("aborts", f"{len(aborts)} ABORTs do not end an attempt: it takes {self.quorums.q}.")
        for abort in aborts:
            if (abort.round, abort.attempt) != (round_number, attempt):
                raise violation("aborts", "An ABORT is of another attempt.")
            self.check_abort(abort)

    def check_void(self, void: Void, round_number: int, attempt: int, state_digest: bytes) -> tuple[int, ...]:
        """The cohort that may be summed again: the one that q members certified in the attempt before, less those that are
        convicted of a lie in it."""
        if void.attempt != attempt - 1:
            raise violation("void", "The certificate that opens this attempt is not of the attempt before.")
        self._sorted(void.ready, "The members that were ready")
        if not void.ready or void.ready[-1] > len(self.seats):
            raise violation("void", "The void attempt names members that the roster does not have.")
        context = transcripts.context(
            self.job, self.epoch, self.roster_hash, void.ready, round_number, void.attempt, state_digest
        )
        before = Announced(round_number, void.attempt, context, state_digest, void.ready, {})
        self.check_certificate(void.certificate, before)
        convicted = self.convicted(void, context)
        return tuple(index for index in void.certificate.survivors.cohort if index not in convicted)

    def convicted(self, void: Void, context: bytes) -> tuple[int, ...]:
        """Members of the certified cohort, f at most, that the proofs convict of a lie in this very attempt; m or more are
        left."""
        found = []
        for each in void.proofs:
            try:
                found.append(proof.convicted(proof.read(each), self.seats, context, self.verify))
            except FederationError as refused:
                raise violation("proof", f"A member is to be left out without a proof: {refused.message}") from None
        self._sorted(found, "The convicted")
        cohort = void.certificate.survivors.cohort
        if not set(found) <= set(cohort):
            raise violation("proof", "A proof is against a member that the cohort does not hold.")
        if len(found) > self.quorums.f:
            raise violation(
                "proof", f"{len(found)} members are convicted: more than the {self.quorums.f} that may lie."
            )
        if found and len(cohort) - len(found) < self.quorums.m:
            raise violation("cohort-small", f"Without the convicted the cohort is smaller than {self.quorums.m}.")
        return tuple(found)

    def check_announcement(self, message: Announcement, before: Bench | None = None) -> Announced:
        """R_r of m READYs or more on one state; q receipts for it after round 1; for a later attempt q ABORTs of the
        attempt before, or the certificate that binds its cohort.

        ``before``: the epoch before this one. Its receipts count where this epoch has none yet; then, and in round 1,
        q of its members must be among the READYs: they speak in it no more.
        """
        self._epoch(message.epoch, "An announcement")
        self._sorted([ready.index for ready in message.readies], "READYs")
        if len(message.readies) < self.quorums.m:
            raise violation("cohort-small", f"A round of {len(message.readies)} is smaller than {self.quorums.m}.")
        digest = message.readies[0].state_digest
        for ready in message.readies:
            if (ready.round, ready.attempt) != (message.round, message.attempt):
                raise violation("ready", "A READY is of another attempt.")
            if ready.state_digest != digest:
                raise violation("different-models", "The READYs do not name one model.")
            self.check_ready(ready)
            if ready.min_cohort > len(message.readies):
                raise violation("cohort-small", f"Member {ready.index} asks for at least {ready.min_cohort} members.")
        ready_set = tuple(ready.index for ready in message.readies)
        certifier = self.certifier(message.receipts, before)
        if message.round > FIRST_ROUND and certifier.check_receipts(message.receipts, message.round - 1) != digest:
            raise violation("different-models", "The READYs and the receipts name different models.")
        if message.round == FIRST_ROUND and message.receipts:
            raise violation("receipts", "The first round starts from no receipts.")
        opens = self.epoch > 1 and (message.round == FIRST_ROUND or certifier is not self)
        if opens:
            self._check_moved(ready_set, before)
        void: tuple[int, ...] = ()
        if message.void is not None:
            if message.aborts:
                raise violation("void", "An attempt is opened by ABORTs or by a certificate, not by both.")
            void = self.check_void(message.void, message.round, message.attempt, digest)
            if ready_set != void:
                raise violation("bound-cohort", "A void attempt is opened for other members than those it binds.")
        elif message.attempt > 0:
            self.check_aborts(message.aborts, message.round, message.attempt - 1)
        elif message.aborts:
            raise violation("aborts", "A first attempt follows no ABORT.")
        return Announced(
            round=message.round,
            attempt=message.attempt,
            context=transcripts.context(
                self.job, self.epoch, self.roster_hash, ready_set, message.round, message.attempt, digest
            ),
            state_digest=digest,
            ready=ready_set,
            minimum={ready.index: ready.min_cohort for ready in message.readies},
            void=void,
        )

    def certifier(self, receipts: Sequence[Receipt], before: Bench | None) -> Bench:
        """The bench whose members signed the receipts: ours, or that of the epoch before."""
        if before is not None and receipts and receipts[0].epoch == before.epoch:
            return before
        return self

    def _check_moved(self, ready: Sequence[int], before: Bench | None) -> None:
        if before is None:
            raise violation(
                "lineage", "The epoch before this one is not known here, so its receipts cannot be checked."
            )
        known = {(seat.member, seat.identity_key) for seat in before.seats}
        moved = [
            index for index in ready if (self.seats[index - 1].member, self.seats[index - 1].identity_key) in known
        ]
        if len(moved) < before.quorums.q:
            raise violation(
                "successor",
                f"{len(moved)} members of epoch {before.epoch} have moved to the next: it takes {before.quorums.q}.",
            )

    def check_survivors(self, survivors: Survivors, announced: Announced) -> bytes:
        """U within R_r, |U| >= m and every m_i in U, every upload signed under our own ctx. Gives H(ctx, U)."""
        if survivors.context != announced.context:
            raise violation("context", "The survivors are of another attempt.")
        cohort = survivors.cohort
        self._sorted(cohort, "Survivors")
        if not set(cohort) <= set(announced.ready):
            raise violation("stranger", "The survivors hold a member that was not ready.")
        if len(cohort) < max([self.quorums.m, *(announced.minimum.get(index, 0) for index in cohort)]):
            raise violation("cohort-small", f"A cohort of {len(cohort)} is smaller than its members allow.")
        if announced.void and cohort != announced.void:
            raise violation("bound-cohort", "A void attempt binds its cohort: no other may be summed.")
        for entry in survivors.entries:
            self.check_entry(survivors.context, entry)
        return transcripts.survivors_digest(survivors)

    def check_certificate(self, certificate: Certificate, announced: Announced) -> bytes:
        """The same, and q distinct ACKs on it. Gives H(ctx, U)."""
        digest = self.check_survivors(certificate.survivors, announced)
        self._sorted([ack.index for ack in certificate.acks], "ACKs")
        if len(certificate.acks) < self.quorums.q:
            raise violation("acks", f"{len(certificate.acks)} ACKs do not certify a cohort: it takes {self.quorums.q}.")
        for ack in certificate.acks:
            if (ack.context, ack.survivors_digest) != (announced.context, digest):
                raise violation("acks", "An ACK is for other survivors.")
            self.check_ack(ack)
        return digest
