"""The lies of a coordinator, one class for each attack of the specification, over the wire.

A lie sees every message before a member does, and every event before the collector does. Where it can, it tells the lie first and
the truth after it: then the job goes on, and its model shows that the lie changed nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from federation.identity.credential import node_request, sign_credential
from federation.identity.keys import SigningKey
from federation.secagg import events, transcripts
from federation.secagg import messages as m
from federation.v1 import rounds_pb2

VICTIM = "de"
PARTNER = "ar"
"""the member on the coordinator's side"""


class Mouth(Protocol):
    """What a lie needs of the driver."""

    manifest: Any
    machine: Any

    def put(self, member: str, message: Any) -> None: ...

    def abort(self, reason: str) -> None: ...

    @property
    def sent(self) -> dict[str, list[bytes]]: ...

    def sent_elsewhere(self, member: str) -> Iterable[bytes]: ...

    def sum_of(self, close: m.Close) -> bytes: ...

    def store(self, data: bytes) -> bytes: ...

    def stored(self, digest: bytes) -> bytes: ...


class Lie:
    """The truth."""

    other_terms: ClassVar[bool] = False
    endless_bundle: ClassVar[bool] = False
    hides_revocations: ClassVar[bool] = False
    takes_no_for_yes: ClassVar[bool] = False
    deaf: ClassVar[bool] = True
    """to refusals: the collector does not hear of them, and waits for the member all the same"""

    def __init__(self, mouth: Mouth, partner: SigningKey) -> None:
        self.mouth, self.partner = mouth, partner

    @property
    def machine(self) -> Any:
        return self.mouth.machine

    def told(self, member: str, message: Any) -> Iterable[Any]:
        """What ``member`` gets in the place of ``message``."""
        yield message

    def heard(self, event: Any) -> Iterable[Any]:
        """What the collector gets in the place of ``event``."""
        if not (type(self) is not Lie and self.deaf and isinstance(event, events.TaskBroke) and event.refused):
            yield event

    def shown(self, parts: Iterator[rounds_pb2.AuditPart]) -> Iterator[rounds_pb2.AuditPart]:
        return parts


# ---------------------------------------------------------------------------------------------------------------- the setup


class Setup(Lie):
    """A lie in each formation, until they are used up: 1 swapped keys, 2 sybils, 3 two rosters, 41 swapped ciphertexts."""

    deaf = False

    def __init__(self, mouth: Mouth, partner: SigningKey) -> None:
        super().__init__(mouth, partner)
        stranger = SigningKey.generate()
        self.plan: list[tuple[type, Callable[[str, Any], Any]]] = [
            (events.Candidates, self.exchange_key),
            (events.Candidates, self.encapsulation_key),
            (events.Candidates, lambda _member, said: self.sybil(said, "zz", stranger)),
            (events.Candidates, lambda _member, said: self.sybil(said, "dz", stranger)),
            (events.Candidates, lambda _member, said: replace(said, keys=(*said.keys, said.keys[-1]))),
            (events.Roster, self.ciphertext),
            (events.Roster, self.fewer),
            (events.RosterCertificate, lambda _member, said: replace(said, signatures=said.signatures[:-1])),
            (events.Openings, self.part),
        ]

    def told(self, member: str, message: Any) -> Iterable[Any]:
        forming = self.machine._book.forming
        number = forming.formation if forming is not None else len(self.plan)
        if number < len(self.plan) and isinstance(message, self.plan[number][0]):
            yield self.plan[number][1](member, message)
        elif number == len(self.plan) and isinstance(message, events.Candidates):
            yield from self.two_lists(member, message)
        else:
            yield message

    def another(self, key: m.KeyMessage, signer: SigningKey | None = None, **changes: Any) -> m.KeyMessage:
        fresh = X25519PrivateKey.generate().public_key().public_bytes_raw()
        made = replace(key, **{"exchange_key": fresh, **changes})
        if signer is None:
            return made
        text = transcripts.key_transcript(self.mouth.manifest.digest, made)
        return replace(made, signature=signer.sign(text))

    @staticmethod
    def others(member: str, keys: tuple[m.KeyMessage, ...]) -> int:
        """The place, from 0, of a key that is not ``member``'s."""
        return 0 if member != PARTNER else len(keys) - 1

    def exchange_key(self, member: str, said: events.Candidates) -> Any:
        at = self.others(member, said.keys)
        return replace(said, keys=(*said.keys[:at], self.another(said.keys[at]), *said.keys[at + 1 :]))

    def encapsulation_key(self, member: str, said: events.Candidates) -> Any:
        at, kem = self.others(member, said.keys), MLKEM768PrivateKey.generate().public_key().public_bytes_raw()
        other = replace(said.keys[at], kem_key=kem)
        return replace(said, keys=(*said.keys[:at], other, *said.keys[at + 1 :]))

    def sybil(self, said: events.Candidates, name: str, officer: SigningKey) -> Any:
        """A member that no roll has, vouched for by an officer of the coordinator's own."""
        from datetime import UTC, datetime, timedelta

        node, now = SigningKey.generate(), datetime.now(UTC)
        federation = self.mouth.manifest.terms().federation
        request = node_request(federation, name, f"{name}-1", node)
        credential = sign_credential(request, federation, officer, name, now - timedelta(1), now + timedelta(1))
        kem = MLKEM768PrivateKey.generate().public_key().public_bytes_raw()
        other = node.public
        key = self.another(
            said.keys[0], node, credential=credential, kem_key=kem, nonce_hash=other, group_hash=bytes(32)
        )
        return replace(said, keys=(*said.keys, key))

    def two_lists(self, member: str, said: events.Candidates) -> Iterable[Any]:
        """The partner has signed two keys. Half of the members see one, half the other; then each half sees the other's."""
        if not hasattr(self, "second"):
            self.second = self.another(said.keys[0], self.partner, nonce_hash=b"\1" * 32)
        lists = said, replace(said, keys=(self.second, *said.keys[1:]))
        if member in {PARTNER, "be"}:
            yield lists[0]
        else:
            yield lists[1]
            yield lists[0]

    @staticmethod
    def ciphertext(_member: str, said: events.Roster) -> Any:
        return replace(said, ciphertexts=tuple(bytes(len(each)) for each in said.ciphertexts))

    @staticmethod
    def fewer(_member: str, said: events.Roster) -> Any:
        return replace(said, keys=said.keys[:-1], encapsulations=said.encapsulations[:-1])

    @staticmethod
    def part(_member: str, said: events.Openings) -> Any:
        opened = [replace(each, boxes=tuple(_damaged(box) for box in each.boxes)) for each in said.openings]
        return replace(said, openings=tuple(opened))


def _damaged(box: m.Box) -> m.Box:
    return replace(box, ciphertext=bytes([box.ciphertext[0] ^ 1]) + box.ciphertext[1:])


class OtherTerms(Lie):
    """4: the same job with another clipping norm."""

    other_terms = True


class EndlessBundle(Lie):
    """31: a bundle that never ends."""

    endless_bundle = True


# ---------------------------------------------------------------------------------------------------------------- the rounds


class Forger(Lie):
    """4, 6, 7, 8, 12, 13, 14: beside each true message those that an attacker would like to be believed."""

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if isinstance(message, m.Announcement) and message.round == 2:
            yield from list(self.mouth.sent[member])  # all that was said in the setup, and in the round before
            yield from list(self.mouth.sent_elsewhere(member))[:40]
        if isinstance(message, m.Announcement):
            yield from self.announcements(message)
        elif isinstance(message, m.Survivors):
            yield from self.survivors(message)
        elif isinstance(message, m.Certificate):
            yield from self.certificates(message)
        yield message
        if isinstance(message, m.Announcement):
            yield from self.second_announcement(member, message)
        elif isinstance(message, m.Survivors):
            yield replace(message, entries=message.entries[1:])
        elif isinstance(message, m.Certificate):
            yield from self.after_certificate(message)

    def announcements(self, true: m.Announcement) -> Iterable[Any]:
        first, *rest = true.readies
        yield replace(true, readies=(replace(first, min_cohort=2), *rest))
        yield replace(true, readies=tuple(replace(each, state_digest=b"\1" * 32) for each in true.readies))
        yield replace(true, readies=true.readies[:2])
        yield replace(true, epoch=2)
        if true.receipts:
            yield replace(true, receipts=true.receipts[:2])
            digest, blob = b"\1" * 32, b"\1" * 32
            yield events.CatchUp(1, true.round, digest, blob, true.receipts)
            yield events.CatchUp(
                1, true.round, digest, blob, tuple(replace(each, state_digest=digest) for each in true.receipts)
            )

    @staticmethod
    def second_announcement(member: str, true: m.Announcement) -> Iterable[Any]:
        if member != VICTIM:
            yield replace(true, readies=true.readies[:-1])

    @staticmethod
    def survivors(true: m.Survivors) -> Iterable[Any]:
        first, *rest = true.entries
        yield replace(true, entries=true.entries[:2])
        yield replace(true, entries=(*true.entries, replace(true.entries[-1], index=9)))
        yield replace(true, entries=(replace(first, root=bytes(32)), *rest))

    @staticmethod
    def certificates(true: m.Certificate) -> Iterable[Any]:
        first, *rest = true.acks
        yield replace(true, acks=true.acks[:2])
        yield replace(true, acks=(first, first, *rest))
        yield replace(true, acks=(replace(first, signature=rest[0].signature), *rest))
        yield replace(true, survivors=replace(true.survivors, entries=true.survivors.entries[1:]))

    def after_certificate(self, true: m.Certificate) -> Iterable[Any]:
        book = self.machine._book
        owner = true.survivors.cohort[0]
        trailer = book.uploads[owner].trailer
        yield m.Recover(
            true, 4, trailer.edges, trailer.boxes[0].ciphertext
        )  # for 4 its own; for the others a strange box
        yield events.AbortRequest(1, book.round, book.attempt)


class Halves(Lie):
    """5: two survivor sets, to two halves. Then each half is shown the other's, and what is made up as a certificate."""

    def __init__(self, mouth: Mouth, partner: SigningKey) -> None:
        super().__init__(mouth, partner)
        self.acks: dict[bytes, dict[int, m.Ack]] = defaultdict(dict)
        self.sets: dict[bytes, m.Survivors] = {}

    def told(self, member: str, message: Any) -> Iterable[Any]:
        book = self.machine._book
        if not isinstance(message, m.Survivors) or (book.round, book.attempt) != (1, 0):
            yield message
            return
        other = replace(message, entries=message.entries[:-1])
        self.sets = {transcripts.survivors_digest(each): each for each in (message, other)}
        yield from (message, other) if member in {"ar", "be"} else (other, message)

    def heard(self, event: Any) -> Iterable[Any]:
        message = getattr(event, "message", None)
        if isinstance(message, m.Ack) and self.sets:
            self.acks[message.survivors_digest][message.index] = message
            if sum(map(len, self.acks.values())) == 4:
                for digest, acks in self.acks.items():
                    self.certify(self.sets[digest], acks)
                self.sets = {}
        yield from super().heard(event)

    def certify(self, survivors: m.Survivors, acks: dict[int, m.Ack]) -> None:
        first = acks[min(acks)]
        borrowed = next(index for index in (1, 2, 3, 4) if index not in acks)
        forged = {**acks, borrowed: replace(first, index=borrowed)}
        for member in self.machine.index_of:
            for signed in (acks, forged):
                self.mouth.put(member, m.Certificate(survivors, tuple(signed[index] for index in sorted(signed))))


class WithheldUpload(Lie):
    """9: the victim's upload is kept back until its edges are out; then it is released."""

    held: m.Upload | None = None

    def heard(self, event: Any) -> Iterable[Any]:
        message = getattr(event, "message", None)
        if isinstance(message, m.Upload) and event.member == VICTIM and self.machine.round == 2 and self.held is None:
            self.held = message
            yield events.TaskBroke(VICTIM, "says nothing (the coordinator keeps it back)")
            return
        yield from super().heard(event)

    def told(self, member: str, message: Any) -> Iterable[Any]:
        yield message
        book = self.machine._book
        if self.held is None or book.round != 2 or not isinstance(message, m.Certificate):
            return
        upload, cohort = self.held, message.survivors
        entry = m.SurvivorEntry(upload.index, upload.root, transcripts.trailer_hash(upload.trailer), upload.signature)
        more = replace(cohort, entries=(*cohort.entries, entry))
        yield more
        yield m.Certificate(more, message.acks)
        boxes = {box.holder: box.ciphertext for box in upload.trailer.boxes}
        index = self.machine.index_of[member]
        if index in boxes:
            yield m.Recover(message, upload.index, upload.trailer.edges, boxes[index])


class Retry(Lie):
    """10: after the reveals of a cohort, the same state with one member less: by ABORT, and by a certificate that opens anew."""

    def __init__(self, mouth: Mouth, partner: SigningKey) -> None:
        super().__init__(mouth, partner)
        self.closed: list[tuple[str, m.Close]] = []
        self.announced: m.Announcement | None = None
        self.readies: dict[int, m.Ready] = {}
        self.certificate: m.Certificate | None = None

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if isinstance(message, m.Announcement) and (message.round, message.attempt) == (2, 0):
            self.announced = message
        if isinstance(message, m.Close) and message.round == 2 and self.announced is not None:
            ready = tuple(each.index for each in self.announced.readies)
            self.closed.append((member, message))
            yield events.AbortRequest(1, 2, 0)
            yield events.Reopen(1, 2, m.Void(0, ready, message.certificate))
            return
        yield message

    def heard(self, event: Any) -> Iterable[Any]:
        message = getattr(event, "message", None)
        if isinstance(message, m.Ready) and (message.round, message.attempt) == (2, 1):
            self.readies[message.index] = message
            if len(self.readies) == 4:
                self.announce()
            return
        yield from super().heard(event)

    def announce(self) -> None:
        true = self.announced
        assert true is not None
        certificate = self.closed[0][1].certificate
        void = m.Void(0, tuple(each.index for each in true.readies), certificate)
        fewer = tuple(self.readies[index] for index in (1, 2, 3))
        for member, close in self.closed:
            self.mouth.put(member, replace(true, attempt=1, readies=fewer, void=void))
            self.mouth.put(member, close)


class AbortBesideCertificate(Lie):
    """11, 37: one member sees the certificate; the others are asked for an ABORT, and for their seeds and shares after it."""

    def __init__(self, mouth: Mouth, partner: SigningKey) -> None:
        super().__init__(mouth, partner)
        self.certificate: m.Certificate | None = None
        self.aborts: dict[str, Any] = {}

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if isinstance(message, m.Certificate) and (self.machine.round, self.machine.attempt) == (2, 0):
            self.certificate = message
            yield message if member == PARTNER else events.AbortRequest(1, 2, 0)
            return
        yield message

    def heard(self, event: Any) -> Iterable[Any]:
        message = getattr(event, "message", None)
        if isinstance(message, m.Abort) and self.certificate is not None and len(self.aborts) < 3:
            self.aborts[event.member] = event
            self.mouth.put(event.member, self.certificate)
            trailer = self.machine._book.uploads[1].trailer
            boxes = {box.holder: box.ciphertext for box in trailer.boxes}
            self.mouth.put(event.member, m.Recover(self.certificate, 1, trailer.edges, boxes[message.index]))
            if len(self.aborts) == 3:
                self.mouth.abort("a certified attempt is aborted all the same")
            return
        yield from super().heard(event)


class CraftedModel(Lie):
    """14, 15: the victim is kept from a sum; then it is offered a model of the coordinator's under a digest that is signed."""

    offered = False

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if isinstance(message, m.Close) and message.round == 2 and member == VICTIM:
            return
        if isinstance(message, events.CatchUp) and member == VICTIM and not self.offered:
            self.offered = True
            yield replace(message, state_blob=self.crafted(message.state_blob))
        yield message

    def crafted(self, blob: bytes) -> bytes:
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from federation.weights.state import read_state, write_state

        with TemporaryDirectory() as folder:
            path = Path(folder) / "state.safetensors"
            path.write_bytes(self.mouth.stored(blob))
            state = read_state(path)
            arrays = {name: np.asarray(array * 1000, array.dtype) for name, array in state.arrays.items()}
            write_state(path, replace(state, arrays=arrays))
            return self.mouth.store(path.read_bytes())


class AlteredSum(Lie):
    """16, 39: another sum in the place of the true one, of which the first is told before: here one element more."""

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if isinstance(message, m.Close) and message.round == 1 and member == VICTIM:
            true = np.frombuffer(self.mouth.sum_of(message), "<u4").copy()
            self.alter(true)
            yield self.close(message, true.tobytes())
        yield message

    def alter(self, sums: Any) -> None:
        sums[0] += np.uint32(1)

    @staticmethod
    def close(true: m.Close, data: bytes) -> Any:
        import hashlib

        from federation.secagg import wire

        proto: Any = wire.to_proto(replace(true, sum_blob=hashlib.sha256(data).digest()))
        proto.inline_sum = data
        return proto


class DoubledSum(AlteredSum):
    def alter(self, sums: Any) -> None:
        sums[:10] *= np.uint32(2)


class WrappedSum(AlteredSum):
    """Of 32 bits, 2^31 - 1 added or taken: what comes of it is in range."""

    def alter(self, sums: Any) -> None:
        first = int(sums[0])
        sums[0] = np.uint32((first + (1 if first >= 1 << 31 else -1) * ((1 << 31) - 1)) % (1 << 32))


class TamperedChunk(Lie):
    """17: of a sum that is right, an audit is shown a stored chunk that is not what its member sent."""

    count = 0

    def shown(self, parts: Iterator[rounds_pb2.AuditPart]) -> Iterator[rounds_pb2.AuditPart]:
        self.count += 1
        if self.count > 1:
            yield from parts
            return
        for number, part in enumerate(parts):
            if number == 0:
                part.data = bytes([part.data[0] ^ 1]) + part.data[1:]
            yield part


class Restarted(Lie):
    """22: the victim has acknowledged a cohort, is killed, and is shown another when it is back."""

    waiting = False

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if isinstance(message, m.Certificate) and self.machine.round == 2 and member == VICTIM and not self.waiting:
            self.waiting = True
            return  # it is killed now
        yield message
        if self.waiting and member == VICTIM and isinstance(message, m.Announcement) and message.round == 2:
            survivors = self.machine._book.survivors
            if survivors is not None:
                yield replace(survivors, entries=survivors.entries[1:])


class Flood(Lie):
    """31: messages of valid form that name nothing, more than a memory holds; one that is too large; bytes that are no message."""

    def __init__(self, mouth: Mouth, partner: SigningKey) -> None:
        super().__init__(mouth, partner)
        self.flooded = False
        self.breaking = [lambda _job: b"\xff" * 100, _oversized, _no_text, lambda _job: b"\x12" + b"\xff" * 9]

    def told(self, member: str, message: Any) -> Iterable[Any]:
        if member == VICTIM and isinstance(message, m.Announcement) and message.round == 2 and not self.flooded:
            self.flooded = True
            yield from [self.empty_survivors()] * 2_000
            yield from self.strange()
        if member == VICTIM and isinstance(message, m.Announcement) and message.round == 3 and self.breaking:
            yield self.breaking.pop()(
                self.mouth.manifest.digest
            )  # the stream ends here; when the node is back, it is told again
        yield message

    def empty_survivors(self) -> bytes:
        proto = rounds_pb2.Survivors(context=bytes(32))
        for index in range(1, 201):
            proto.entries.add(index=index, root=bytes(32), trailer_hash=bytes(32), signature=bytes(64))
        return rounds_pb2.Instruction(job=self.mouth.manifest.digest, survivors=proto).SerializeToString()

    def strange(self) -> Iterable[bytes]:
        """What is read, and means nothing."""
        job = self.mouth.manifest.digest
        empty = rounds_pb2.Instruction(job=job).SerializeToString()
        yield rounds_pb2.Instruction(job=job, survivors=rounds_pb2.Survivors(context=b"x")).SerializeToString()
        yield empty
        yield empty + b"\x12\x00" * 1_000  # one field again and again
        yield empty + b"\xfa\x7f\x03xyz"  # a field that nobody knows
        yield rounds_pb2.Instruction(job=b"x", ping=rounds_pb2.Ping(nonce=1)).SerializeToString()
        yield rounds_pb2.Instruction(ask_consent=rounds_pb2.AskConsent(manifest=b"{}")).SerializeToString()
        yield rounds_pb2.Instruction(welcome=rounds_pb2.Welcome(roll=b"{}")).SerializeToString()
        yield rounds_pb2.Instruction(job=job, withdrawn=rounds_pb2.Withdrawn(withdrawal=b"{}")).SerializeToString()


def _oversized(job: bytes) -> bytes:
    big = rounds_pb2.Welcome(roll=bytes(20 << 20))
    return rounds_pb2.Instruction(job=job, welcome=big).SerializeToString()


def _no_text(job: bytes) -> bytes:
    """A JobFailed whose reason is not UTF-8: it must not end the job."""
    field = rounds_pb2.Instruction.DESCRIPTOR.fields_by_name["job_failed"].number << 3 | 2
    tag = bytes([field & 0x7F | 0x80, field >> 7])
    return rounds_pb2.Instruction(job=job).SerializeToString() + tag + b"\x04\x0a\x02\xff\xfe"


class HiddenRevocation(Lie):
    """46: nobody hears that a member has taken its consent back; it is announced and asked as before."""

    hides_revocations = True


class BorrowedConsent(Lie):
    """47: a member that denied is placed all the same, and shown what it signed for another job."""

    takes_no_for_yes = True


LIES: dict[str, type[Lie]] = {
    "hidden-revocation": HiddenRevocation,
    "expired-consent": HiddenRevocation,
    "borrowed-consent": BorrowedConsent,
    "setup": Setup,
    "other-terms": OtherTerms,
    "endless-bundle": EndlessBundle,
    "forger": Forger,
    "halves": Halves,
    "withheld-upload": WithheldUpload,
    "retry": Retry,
    "abort-beside-certificate": AbortBesideCertificate,
    "crafted-model": CraftedModel,
    "altered-sum": AlteredSum,
    "doubled-sum": DoubledSum,
    "wrapped-sum": WrappedSum,
    "tampered-chunk": TamperedChunk,
    "restarted": Restarted,
    "flood": Flood,
}
