"""Who may halt what, and who may take it back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from federation.errors import FederationError, Halted, InvalidIdentity, PolicyDenied
from federation.governance.ballot import decision_bytes
from federation.governance.charter import Action, HaltPowers
from federation.governance.proposal import Proposal, Vote, seal_proposal, seal_vote
from federation.halt.acknowledgement import Acknowledgement, open_acknowledgement, seal_acknowledgement
from federation.halt.lease import Lease
from federation.halt.levels import Level
from federation.halt.order import SignedLift, SignedOrder, Signer, read_lift, read_order
from federation.halt.powers import check_lift, check_order
from federation.halt.powers import decide as by_vote
from federation.halt.receipt import Receipt, open_receipt, seal_receipt
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from tests.unit.halt.given import JOB, LEAD, NOW, Officers, member, node

OFFICERS = Officers()
ROLL = OFFICERS.parties.roll
QUORUM = b"two thirds"


def decide(decision: bytes, roll: Roll, subject: bytes) -> None:
    """The decision names what it lifts."""
    if decision != QUORUM + subject:
        raise InvalidIdentity("No quorum.")


def ordered(signed: SignedOrder) -> None:
    check_order(signed, ROLL, OFFICERS.node_key)


def lifted(signed: SignedLift) -> None:
    check_lift(signed, ROLL, decide, OFFICERS.node_key)


@pytest.mark.parametrize("level", [Level.hold, Level.drain, Level.stop])
def test_a_member_halts_itself_always_its_lead_a_job_and_any_voter_the_federation(level: Level) -> None:
    for by, target in (
        (member("fr"), {"scope": "member", "member": "fr"}),
        (member("fr"), {"scope": "job", "job": JOB, "member": "fr"}),
        (node("fr"), {"scope": "member", "member": "fr"}),
        (node("fr"), {"scope": "job", "job": JOB, "member": "fr"}),
        (LEAD, {"scope": "job", "job": JOB}),
        (member("ke"), {"scope": "job", "job": JOB}),
        (member("ke"), {"scope": "federation"}),
    ):
        ordered(OFFICERS.order(level, by, **target))


def test_an_order_stands_when_its_signer_has_another_key_and_the_old_key_gives_none_to_the_coordinator() -> None:
    """A node that is told late takes it; else it would have no lease for as long as the order stands, a job's stop for ever."""
    fresh = SigningKey.generate().public
    members = tuple(replace(each, officer_key=fresh) if each.id == "fr" else each for each in ROLL.members)
    leads = tuple(replace(each, key=fresh) for each in ROLL.leads)
    rotated = replace(ROLL, version=ROLL.version + 1, members=members, leads=leads, past=(ROLL,))
    for by, target in ((member("fr"), {"scope": "federation"}), (LEAD, {"scope": "job", "job": JOB})):
        order = OFFICERS.order(Level.stop, by, **target)
        check_order(order, rotated, OFFICERS.node_key, former=True)
        with pytest.raises(InvalidIdentity, match="is not signed by"):
            check_order(order, rotated, OFFICERS.node_key)
        stranger = OFFICERS.order(Level.stop, by, key=OFFICERS.parties.officers["ke"], **target)
        with pytest.raises(InvalidIdentity, match="is not signed by"):
            check_order(stranger, rotated, OFFICERS.node_key, former=True)


@pytest.mark.parametrize(
    ("by", "target"),
    [
        (LEAD, {"scope": "federation"}),
        (LEAD, {"scope": "member", "member": "fr"}),
        (LEAD, {"scope": "job", "job": JOB, "member": "fr"}),
        (node("fr"), {"scope": "federation"}),
        (node("fr"), {"scope": "member", "member": "ke"}),
        (node("fr"), {"scope": "job", "job": JOB}),
    ],
)
def test_nobody_halts_more_than_the_charter_says(by: Signer, target: dict[str, object]) -> None:
    with pytest.raises(PolicyDenied, match="may not halt"):
        ordered(OFFICERS.order(Level.hold, by, **target))


def test_an_order_by_anybody_elses_key_is_refused() -> None:
    for by, key in (
        (member("fr"), OFFICERS.parties.officers["ke"]),
        (member("fr"), OFFICERS.node_keys["fr"]),
        (LEAD, SigningKey.generate()),
        (Signer("operator", ""), SigningKey.generate()),
        (Signer("node", "fr", "fr-2"), OFFICERS.node_keys["fr"]),
    ):
        target = {"scope": "member", "member": "fr"} if by.kind in {"node", "member"} else {}
        if by.kind == "lead":
            target = {"scope": "job", "job": JOB}
        with pytest.raises(InvalidIdentity, match="not signed by"):
            ordered(OFFICERS.order(Level.stop, by, key=key, **target))
    with pytest.raises(InvalidIdentity, match="not a member"):
        ordered(OFFICERS.order(Level.stop, member("xx"), key=SigningKey.generate()))
    with pytest.raises(InvalidIdentity, match="this one is health"):
        ordered(OFFICERS.order(Level.stop, member("fr"), federation="other"))


def test_whoever_halted_its_own_lifts_it_and_all_else_takes_the_quorum() -> None:
    own = OFFICERS.order(Level.stop, member("fr"), scope="member", member="fr")
    lifted(OFFICERS.lift(own))
    with pytest.raises(InvalidIdentity, match="whose halt it is"):
        lifted(OFFICERS.lift(own, key=OFFICERS.parties.officers["ke"]))
    lifted(OFFICERS.lift(OFFICERS.order(Level.drain, LEAD, scope="job", job=JOB)))
    whole = OFFICERS.order(Level.stop, member("fr"))
    with pytest.raises(InvalidIdentity, match="lifted by a vote"):
        lifted(OFFICERS.lift(whole))
    with pytest.raises(InvalidIdentity, match="No quorum"):
        lifted(OFFICERS.lift(whole, decision=QUORUM + own.digest))
    lifted(OFFICERS.lift(whole, decision=QUORUM + whole.digest))


def test_a_stop_of_a_job_is_final_for_everybody() -> None:
    for order in (
        OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB),
        OFFICERS.order(Level.stop, member("fr"), scope="job", job=JOB, member="fr"),
    ):
        with pytest.raises(Halted, match="final"):
            lifted(OFFICERS.lift(order, decision=QUORUM + order.digest))


def test_every_altered_byte_of_an_order_or_lift_is_refused() -> None:
    order = OFFICERS.order(Level.stop, member("fr"))
    lift = OFFICERS.lift(order, decision=QUORUM)
    for data, read in ((order.envelope, read_order), (lift.envelope, read_lift)):
        for place in range(len(data)):
            altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            with pytest.raises(FederationError):
                read(altered)


def test_orders_that_name_nothing_or_too_much_are_refused() -> None:
    for target in (
        {"scope": "job"},
        {"scope": "member"},
        {"scope": "member", "member": "fr", "job": JOB},
        {"scope": "federation", "member": "fr"},
        {"scope": "federation", "job": JOB},
    ):
        with pytest.raises(InvalidIdentity, match="does not name what it halts"):
            OFFICERS.order(Level.hold, member("fr"), **target)
    with pytest.raises(InvalidIdentity, match="reason"):
        OFFICERS.order(Level.hold, member("fr"), reason="x" * 501)
    with pytest.raises(InvalidIdentity, match="number"):
        OFFICERS.order(Level.hold, member("fr"), number=0)
    document = json.loads(_payload(OFFICERS.order(Level.hold, member("fr")).envelope))
    for change in ({"level": "none"}, {"level": 3}, {"drill": 1}, {"by": {"kind": "friend", "id": "fr", "node": ""}}):
        with pytest.raises(InvalidIdentity):
            read_order(seal({**document, **change}, "halt-order", (SigningKey.generate(),)))


def _payload(envelope: bytes) -> bytes:
    import base64

    return base64.b64decode(json.loads(envelope)["payload"])


def test_an_acknowledgement_and_a_receipt_are_their_signers_own() -> None:
    key, order = SigningKey.generate(), OFFICERS.order(Level.stop, member("fr"))
    said = Acknowledgement(order.digest, "fr", "fr-1", Level.stop, NOW, 210_000, 3, 1)
    envelope = seal_acknowledgement(said, key)
    assert open_acknowledgement(envelope, key.public) == said
    with pytest.raises(InvalidIdentity, match="not signed by the node"):
        open_acknowledgement(envelope, SigningKey.generate().public)
    receipt = Receipt("health", order.digest, NOW, NOW)
    promised = seal_receipt(receipt, key)
    assert open_receipt(promised, order.digest, key.public) == receipt
    with pytest.raises(InvalidIdentity, match="another order"):
        open_receipt(promised, b"\0" * 32, key.public)
    with pytest.raises(InvalidIdentity, match="not signed by the coordinator"):
        open_receipt(promised, order.digest, SigningKey.generate().public)


def test_a_lease_counts_from_the_question_and_only_for_who_holds_every_order() -> None:
    lease = Lease(30.0)
    assert not lease.holds(0.0)
    first = lease.ask(100.0)
    assert lease.answered(first, (), ())
    assert lease.holds(129.9)
    assert not lease.holds(130.0)
    late = lease.ask(110.0)
    newest = lease.ask(120.0)
    assert not lease.answered(newest, (b"unknown",), ())
    assert lease.ends == 130.0
    assert lease.answered(newest, (b"known",), {b"known", b"more"})
    assert lease.ends == 150.0
    assert not lease.answered(newest, (), ())  # replayed
    assert not lease.answered(late, (), ())  # overtaken
    assert not lease.answered(99, (), ())  # never asked
    asked = lease.ask(130.0)
    lease.forget()
    assert not lease.answered(asked, (), ())
    assert lease.ends == 150.0


def decided(subject: bytes, yes: tuple[str, ...], action: Action = "lift") -> bytes:
    officers = OFFICERS.parties.officers
    proposal = seal_proposal(
        Proposal("health", action, subject, ROLL.digest, "Go on?", NOW, NOW + timedelta(days=1), bytes(16)),
        officers["ch"],
    )
    digest = open_envelope(proposal, "proposal").digest
    votes = [seal_vote(Vote(digest, "yes", "", NOW), officers[who]) for who in yes]
    return decision_bytes(proposal, votes)


def test_the_members_votes_lift_what_one_of_them_halted_for_all() -> None:
    """With the real count: two thirds of three members are two."""
    halt = OFFICERS.order(Level.stop, member("fr"))
    check_lift(OFFICERS.lift(halt, decision=decided(halt.digest, ("ch", "ke"))), ROLL, by_vote, OFFICERS.node_key)
    for decision in (
        decided(halt.digest, ("ch",)),
        decided(OFFICERS.order(Level.stop, member("fr")).digest, ("ch", "ke")),
        decided(halt.digest, ("ch", "ke"), "recall"),
    ):
        with pytest.raises(InvalidIdentity):
            check_lift(OFFICERS.lift(halt, decision=decision), ROLL, by_vote, OFFICERS.node_key)


def test_a_charter_may_leave_halts_to_fewer() -> None:
    narrow = replace(ROLL, charter=replace(ROLL.charter, halt=HaltPowers(job=("lead",), member=(), federation=())))
    check_order(OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB), narrow, OFFICERS.node_key)
    check_order(OFFICERS.order(Level.stop, member("fr"), scope="member", member="fr"), narrow, OFFICERS.node_key)
    for target in ({"scope": "federation"}, {"scope": "member", "member": "ke"}, {"scope": "job", "job": JOB}):
        with pytest.raises(PolicyDenied):
            check_order(OFFICERS.order(Level.hold, member("fr"), **target), narrow, OFFICERS.node_key)
    nobody = replace(ROLL, charter=replace(ROLL.charter, halt=HaltPowers(job=(), member=(), federation=())))
    with pytest.raises(PolicyDenied):
        check_order(OFFICERS.order(Level.hold, LEAD, scope="job", job=JOB), nobody, OFFICERS.node_key)
