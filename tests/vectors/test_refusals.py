"""What a member refuses to hear and a collector to count, each at every entry point: the machines, the checks by themselves, and
what a certificate comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from federation.errors import ProtocolViolation
from federation.secagg import transcripts
from federation.secagg.certificate import Announced
from federation.secagg.collector import CollectorMachine
from federation.secagg.conviction import Conviction
from federation.secagg.events import (
    Begin,
    Connected,
    Encoded,
    FetchState,
    From,
    Lost,
    Misconduct,
    PutState,
    Remember,
    Reopen,
    Send,
    StateReady,
    SumApplied,
    SumReady,
    Tell,
    Tick,
)
from federation.secagg.messages import Certificate, Close, Ready, Recover, Survivors, Void
from node_agent.rounds.files import JobFiles
from tests.plain.ciphers import Draws, signed
from tests.vectors import product
from tests.vectors.files import b, bench, cases, load, message, referred, refuses, unhexed
from tests.vectors.subjects.federations import JOB, LABEL, epoch, rounds

SETUPS = {case["name"]: case["setup"] for case in load("rounds")["cases"]}


def lab_at(name: str, index: int, after: str, announcement: Any = None) -> product.Lab:
    """A member's machine that has said this message last, in this round's attempt."""
    attempt = rounds()[name].attempt
    terms = product.terms_of(JOB, attempt.rules)
    lab = product.Lab(attempt.epoch, index, terms, f"{LABEL}/{SETUPS[name]}")
    lab.setup()
    if attempt.round == 1:
        lab.hears(StateReady(1, attempt.state))
    else:
        first = rounds()["four"].attempt
        lab.hears(StateReady(1, first.state))
        begun(lab, first, first.announcement)
        lab.told("Close", first.close)
        lab.hears(SumApplied(first.context, attempt.state, tuple(first.opened().header[3:-4])))
    if after == "Ready":
        return lab
    begun(lab, attempt, attempt.announcement if announcement is None else announcement)
    steps: dict[str, list[Callable[[], Any]]] = {
        "Upload": [],
        "Ack": [lambda: lab.told("Survivors", attempt.survivors)],
        "Reveal": [lambda: lab.told("Survivors", attempt.survivors), lambda: lab.told("Certificate", attempt.certificate)],
        "RecoverReply": [lambda: lab.told("Recover", attempt.recovers[attempt.silent[0], index])],
        "Abort": [lambda: lab.told("AbortRequest", {"epoch": 1, "round": attempt.round, "attempt": attempt.number})],
    }  # fmt: skip
    said = [each.message for step in steps[after] for each in step() if isinstance(each, Send)]
    assert after == "Upload" or after in [type(each).__name__ for each in said]
    return lab


def begun(lab: product.Lab, attempt: Any, announcement: Any) -> None:
    """Announced, trained, uploaded."""
    member = attempt.epoch.members[lab.index - 1].id
    lab.draws = Draws(f"{attempt.label}/{member}")
    lab.told("Announcement", announcement)
    said = [
        each.message
        for each in lab.hears(Encoded(attempt.context, attempt.uploads[lab.index]["root"]))
        if isinstance(each, Send)
    ]
    assert said == [product.message("Upload", attempt.uploads[lab.index])]


@cache
def kept(name: str, index: int, after: str) -> product.Lab:
    """One machine for all: what it refuses changes nothing."""
    return lab_at(name, index, after)


def announced(name: str) -> Announced:
    attempt = rounds()[name].attempt
    return bench(SETUPS[name]).check_announcement(product.message("Announcement", attempt.announcement))


@cases("certificates")
def test_certificates(case: Any) -> None:
    certificate = message("Certificate", case["certificate"])
    digest = bench(SETUPS[case["round"]]).check_certificate(certificate, announced(case["round"]))
    assert digest == b(case["survivors_digest"])


@cases("certificates", "invalid")
def test_a_member_refuses(case: Any) -> None:
    if "announcement" in case:
        lab = lab_at(case["round"], case["member"], case["after"], unhexed(case["announcement"], "Announcement"))
    else:
        lab = kept(case["round"], case["member"], case["after"])
    refuses(lab, told(case), case["check"])


def told(case: Any) -> Any:
    """By way of the wire, where the wire lets it pass; what it refuses by itself reaches the machine as a value."""
    if case["check"] not in ("repeated", "cohort-small") or sorted_once(case):
        return message(case["kind"], case["fields"])
    with pytest.raises(ProtocolViolation, match="sorted"):
        message(case["kind"], case["fields"])
    return values(case)


def sorted_once(case: Any) -> bool:
    fields = case["fields"]
    lists = [fields.get(name, []) for name in ("readies", "aborts", "receipts", "entries", "acks")]
    lists.append(fields.get("survivors", {}).get("entries", []))
    indices = [[each["index"] for each in found] for found in lists]
    return all(found == sorted(set(found)) for found in indices)


def values(case: Any) -> Any:
    """Lists as they stand, though no wire would carry them so."""
    fields = case["fields"]
    if case["kind"] == "Announcement":
        empty = message("Announcement", {**fields, "readies": [], "aborts": [], "receipts": []})
        return replace(
            empty,
            readies=tuple(message("Ready", each) for each in fields["readies"]),
            aborts=tuple(message("Abort", each) for each in fields["aborts"]),
            receipts=tuple(message("Receipt", each) for each in fields["receipts"]),
        )
    held = fields["survivors"] if case["kind"] == "Certificate" else fields
    entries = tuple(message("SurvivorEntry", each) for each in held["entries"])
    survivors = Survivors(b(held["context"]), entries)
    if case["kind"] == "Survivors":
        return survivors
    return Certificate(survivors, tuple(message("Ack", each) for each in fields["acks"]))


@cases("certificates", "invalid", alone=True)
def test_whoever_reads_it_refuses(case: Any) -> None:
    """The check by itself: as the collector, and who verifies a release, makes it."""
    seats, found = bench(SETUPS[case["round"]]), told(case)
    check = {
        "Announcement": seats.check_announcement,
        "Survivors": lambda survivors: seats.check_survivors(survivors, announced(case["round"])),
        "Certificate": lambda certificate: seats.check_certificate(certificate, announced(case["round"])),
    }[case["kind"]]
    with pytest.raises(ProtocolViolation) as refused:
        check(found)
    assert refused.value.check == case["check"]


@cases("certificates", "invalid", kind="Certificate", alone=True)
def test_whatever_a_certificate_comes_in(case: Any) -> None:
    """RECOVER, CLOSE, REOPEN, and an announcement that it is to open."""
    attempt, found = rounds()[case["round"]].attempt, told(case)
    lab = kept(case["round"], case["member"], "Upload")
    owner = attempt.silent[0]
    box = next(
        box for box in product.message("Upload", attempt.uploads[owner]).trailer.boxes if box.holder == case["member"]
    )
    refuses(lab, Recover(found, owner, tuple(attempt.edges(owner)), box.ciphertext), case["check"])
    digest = transcripts.survivors_digest(found.survivors)
    refuses(lab, Close(attempt.round, attempt.context, digest, bytes(32), 1, found), case["check"])
    void = Void(attempt.number, attempt.ready, found)
    held = kept(case["round"], case["member"], "Ready")
    if attempt.round == 1:
        refuses(held, Reopen(1, attempt.round, void), case["check"])
    with pytest.raises(ProtocolViolation) as refused:
        bench(SETUPS[case["round"]]).check_void(void, attempt.round, attempt.number + 1, attempt.state)
    assert refused.value.check == case["check"]


# -------------------------------------------------------------------------------------------------------------- states


def lab_with(setup: str, index: int, at: str) -> product.Lab:
    """A member's machine of "five" or of an epoch after it."""
    attempt = rounds()["five, attempt 1"].attempt
    terms = product.terms_of(JOB, attempt.rules)
    lab = product.Lab(
        epoch(setup), index, terms, f"{LABEL}/{setup}", known=[*epoch("five").members, *epoch("four").members]
    )
    lab.setup()
    if at == "knows the epoch before":
        assert lab.told("Lineage", {"roster": epoch("five").roster(0), "confirmations": epoch("five").confirmed()})
    if at.startswith("holds"):
        lab.hears(StateReady(1, attempt.state))
    if at in ("holds state_2", "holds state_2, certified"):
        before = rounds()["five, aborted"].attempt
        begun(lab, before, before.announcement)
        begun(lab, attempt, attempt.announcement)
        lab.told("Close", attempt.close)
        after = rounds()["five, attempt 1"].following.digest
        lab.hears(SumApplied(attempt.context, after, tuple(attempt.opened().header[3:-4])))
        assert lab.machine.position.state_digest == after
    if at == "holds state_2, certified":
        known = next(each for each in load("states")["cases"] if each["name"] == "CatchUp: the state is held already")
        assert lab.hears(message("CatchUp", known["fields"]))
    return lab


def offer(case: Any) -> Any:
    five = next(each for each in load("setup")["cases"] if each["name"] == "five")
    return message(case["kind"], referred(case["fields"], five))


@cases("states", kind="Lineage")
def test_a_newcomer_learns_the_epoch_before(case: Any) -> None:
    """Then it can check receipts of that epoch, and not before."""
    offered = next(each for each in load("states")["cases"] if each["name"] == "CatchUp: a newcomer")
    lab = lab_with(case["setup"], case["member"], case["at"])
    assert [type(each) for each in lab.hears(offer(case))] == [Remember]
    assert lab.hears(offer(case)) == []
    assert any(isinstance(each, FetchState) for each in lab.hears(message("CatchUp", offered["fields"])))


@cases("states", kind="CatchUp")
def test_whoever_is_behind_catches_up(case: Any) -> None:
    lab, asked = lab_with(case["setup"], case["member"], case["at"]), message("CatchUp", case["fields"])
    found = [each for each in lab.hears(asked) if isinstance(each, FetchState)]
    expected = FetchState(asked.round, asked.state_digest, asked.state_blob, b(case["key"])) if case["key"] else None
    assert found == ([expected] if expected else [])
    if expected:
        said = lab.hears(StateReady(expected.round, expected.state_digest))
        assert any(isinstance(each, Send) and isinstance(each.message, Ready) for each in said)


@cases("states", kind="ProvideState")
def test_who_is_asked_for_a_state(case: Any, tmp_path: Path) -> None:
    lab, asked = lab_with(case["setup"], case["member"], case["at"]), message("ProvideState", case["fields"])
    found = lab.hears(asked)
    if case["key"] is None:
        assert found == []
        return
    assert found == [PutState(asked.epoch, asked.round, asked.state_digest, b(case["key"]))]
    if "sealed" not in case:
        return
    files = JobFiles(tmp_path / "job")
    files.prepare()
    held = next(each for each in load("states")["cases"] if each["name"] == "the file of state_2")
    files.state(2).write_bytes(b(held["file"]))
    path = files.find(asked.state_digest)
    assert path is not None
    assert files.sealed(path, b(case["key"])).read_bytes() == b(case["sealed"])
    assert files.unsealed(tmp_path / "job" / "sealed", b(case["key"])).read_bytes() == b(held["file"])


@cases("states", "invalid")
def test_no_state_is_taken_or_given(case: Any) -> None:
    refuses(lab_with(case["setup"], case["member"], case["at"]), offer(case), case["check"])


# ------------------------------------------------------------------------------------------------------- the collector


@cases("messages")
def test_what_signatures_are_over(case: Any) -> None:
    seats, said, text = bench("three"), message(case["kind"], case["fields"]), b(case["transcript"])
    rh = seats.roster_hash
    index = case["fields"].get("index", int(case["name"].split()[-1]))
    made = {
        "KeyMessage": lambda: transcripts.key_transcript(JOB, said),
        "Encapsulation": lambda: transcripts.encapsulation_transcript(JOB, said),
        "RosterSignature": lambda: transcripts.roster_transcript(JOB, 1, said.index, rh),
        "Opening": lambda: transcripts.opening_transcript(JOB, said),
        "Confirmation": lambda: transcripts.confirmation_transcript(JOB, said),
        "Ready": lambda: transcripts.ready_transcript(JOB, rh, said),
        "Upload": lambda: transcripts.upload_transcript(said.context, said.index, said.root,
         transcripts.trailer_hash(said.trailer)),
        "Ack": lambda: transcripts.ack_transcript(said),
        "Reveal": lambda: transcripts.reveal_transcript(said),
        "RecoverReply": lambda: transcripts.recover_transcript(said),
        "Abort": lambda: transcripts.abort_transcript(JOB, rh, said),
        "Receipt": lambda: transcripts.receipt_transcript(JOB, rh, said),
    }  # fmt: skip
    assert made[case["kind"]]() == text
    assert signed(epoch("three").members[index - 1].identity, text, said.signature)


ORDER = ("forming", "encapsulating", "signing", "opening", "confirming", "gathering", "collecting", "certifying", "revealing",
         "recovering", "closed")  # fmt: skip


class Center:
    """The collector's machine in round ``three``, fed what its members say; what it tells is compared with the plain messages."""

    def __init__(self) -> None:
        made, attempt = epoch("three"), rounds()["three"].attempt
        self.made, self.attempt = made, attempt
        self.machine: CollectorMachine = product.collector_of(made, product.terms_of(JOB, attempt.rules))
        self.told: list[Any] = []
        self.now = 0.0

    def hears(self, event: Any) -> list[Any]:
        found = self.machine.handle(event, self.now)
        self.machine.validate()
        self.told += [each.message for each in found if isinstance(each, Tell)]
        return found

    def takes(self, index: int, kind: str, said: Any) -> list[Any]:
        return self.hears(From(self.made.members[index - 1].id, product.message(kind, said)))

    def tells(self, *expected: tuple[str, Any]) -> None:
        """Exactly these, since the last look."""
        assert [product.sent(each) for each in self.told] == [product.sent(product.message(*each)) for each in expected]
        self.told.clear()

    def to(self, stage: str) -> Center:
        for each in ORDER[: ORDER.index(stage) + 1]:
            getattr(self, f"_{each}")()
        return self

    def _forming(self) -> None:
        for member in self.made.members:
            self.hears(Connected(member.id))
        self.hears(Begin(tuple((member.id, f"{member.id}-1") for member in self.made.members)))
        self.tells(("Form", self.made.form()))

    def _each(self, kind: str, saids: Any) -> None:
        for index, said in enumerate(saids, start=1):
            self.takes(index, kind, said)

    def _encapsulating(self) -> None:
        self._each("KeyMessage", self.made.keys)
        self.tells(("Candidates", self.made.candidates()))

    def _signing(self) -> None:
        self._each("Encapsulation", self.made.encapsulations)
        self.tells(*(("Roster", self.made.roster(index)) for index in (1, 2, 3)))

    def _opening(self) -> None:
        self._each("RosterSignature", self.made.signatures)
        self.tells(("RosterCertificate", self.made.certificate()))

    def _confirming(self) -> None:
        self._each("Opening", self.made.openings)
        self.tells(*(("Openings", self.made.opened_for(index)) for index in (1, 2, 3)))

    def _gathering(self) -> None:
        self._each("Confirmation", self.made.confirmations)
        self.tells(("Confirmations", self.made.confirmed()))

    def _collecting(self) -> None:
        self._each("Ready", self.attempt.readies)
        self.tells(("Announcement", self.attempt.announcement))

    def _certifying(self) -> None:
        self._each("Upload", self.attempt.uploads.values())
        self.tells(("Survivors", self.attempt.survivors))

    def _revealing(self) -> None:
        self._each("Ack", self.attempt.acks)
        self.tells(("Certificate", self.attempt.certificate))

    def _recovering(self) -> None:
        self._each("Reveal", self.attempt.reveals.values())
        self.hears(Lost("ke"))
        self.now += product.WINDOWS.reconnect
        self.hears(Tick())
        self.tells(*(("Recover", self.attempt.recovers[3, holder]) for holder in (1, 2)))

    def _closed(self) -> None:
        for (_, holder), reply in self.attempt.replies.items():
            self.takes(holder, "RecoverReply", reply)
        assert self.machine.phase == "unmasking"
        self.hears(SumReady(self.attempt.context, self.attempt.close["sum_blob"], len(self.attempt.sum)))
        self.tells(("Close", self.attempt.close))


def test_a_collector_tells_what_the_page_says() -> None:
    """From the first key to the sum of round ``three``, byte for byte."""
    center = Center().to("closed")
    assert center.machine.round == 2


@cases("messages", "invalid")
def test_a_collector_does_not_count(case: Any) -> None:
    center = Center().to(case["stage"])
    if "before" in case:
        center.hears(From(case["from"], message(case["kind"], case["before"])))
    held = center.machine.checkpoint()
    found = center.hears(From(case["from"], message(case["kind"], case["fields"])))
    assert isinstance(found[0], Misconduct)
    assert (found[0].member, found[0].violation.check) == (case["from"], case["check"])
    if case["check"].startswith("two-"):
        assert found[0].proof
        Conviction.from_bytes(found[0].violation.evidence).check(lambda *parts: signed(parts[0], parts[1], parts[2]))
    elif case["check"] not in (
        "acks",
        "reveal-seed",
        "reveal-edges",
    ):  # where what is signed is kept, and not waited for
        assert len(found) == 1
        assert center.machine.checkpoint() == held
