"""How one roll follows another: who can change what, with whose signature and whose votes."""

from dataclasses import replace

import pytest

from federation.audit.checkpoint import VerifierKey, log_key
from federation.audit.named_key import NamedKey, log_key_of, log_keys_of, named_key
from federation.errors import InvalidIdentity, ProtocolViolation
from federation.governance.amendment import changes_of
from federation.governance.charter import Charter, Quorum, Seat
from federation.governance.history import amendments_of, decision_of, extended, newest_envelope, succeeds
from federation.identity.credential import node_request, sign_credential, verify_credential
from federation.identity.envelope import open_envelope, seal
from federation.identity.roll import Roll, RollLead, open_draft
from tests.unit.governance.members import NOON, WEEK, Federation, entry, founded, key, revoked
from tests.unit.identity.parties import found

ATLAS = founded()
"""five members: four of them are two thirds"""
FOUR = ("br", "fr", "in", "jp")
NEW_MEMBER = {"members": (*ATLAS.roll.members, entry("se"))}
NEW_LEAD = {"leads": (*ATLAS.roll.leads, RollLead("bo", "fr", "Bo", key("bo").public))}


def digest(envelope: bytes) -> bytes:
    return open_envelope(envelope, "roll").digest


def test_a_member_is_admitted_by_vote_and_signs_what_it_enters() -> None:
    admitted = ATLAS.amended(FOUR, "admission", key("se"), **NEW_MEMBER)
    roll = Roll.open(admitted.roll.envelope)
    assert roll == admitted.roll
    assert (roll.version, roll.previous, roll.member("se").tier) == (2, ATLAS.roll.digest, "member")
    assert roll.voters == dict.fromkeys(("br", "fr", "in", "jp", "ke", "se"), 1)
    assert roll.past == (ATLAS.roll,)
    assert roll.of_digest(ATLAS.roll.digest) == ATLAS.roll
    decision = decision_of(roll)
    assert decision is not None
    assert set(decision.tally.choices) == set(FOUR)


def test_nobody_is_admitted_who_has_not_signed() -> None:
    with pytest.raises(InvalidIdentity, match="se has not signed the roll"):
        ATLAS.amended(FOUR, "admission", **NEW_MEMBER)


def test_nobody_is_admitted_without_the_quorum_or_without_a_vote() -> None:
    with pytest.raises(InvalidIdentity, match="lacks its quorum for admission: 3 of 5"):
        ATLAS.amended(FOUR[:3], "admission", key("se"), **NEW_MEMBER)
    with pytest.raises(InvalidIdentity, match="no decision of the members, and needs one: se"):
        ATLAS.amended((), "admission", key("se"), *(key(who) for who in ATLAS.keys), **NEW_MEMBER)


def test_votes_for_one_roll_carry_no_other() -> None:
    wanted, other = ATLAS.signed(key("se"), **NEW_MEMBER), ATLAS.signed(members=ATLAS.member("ke", state="suspended"))
    decision = ATLAS.decided("admission", digest(wanted), FOUR)
    with pytest.raises(InvalidIdentity, match="about a admission, and the roll changes suspension"):
        extended(ATLAS.roll, other, decision)
    tricked = ATLAS.decided("suspension", digest(wanted), FOUR)
    with pytest.raises(InvalidIdentity, match="another subject"):
        extended(ATLAS.roll, other, tricked)


def test_one_decision_answers_for_all_that_a_roll_changes() -> None:
    """Voted on as an admission, it also suspends, and the charter asks more for that."""
    quorums = {**Charter.standard().quorums, "suspension": Quorum(1, 1)}
    strict = founded(charter=replace(Charter.standard(), quorums=quorums))
    members = (*strict.member("ke", state="suspended"), entry("se"))
    envelope = strict.signed(key("se"), members=members)
    assert strict.actions(envelope) == {"admission", "suspension"}
    with pytest.raises(InvalidIdentity, match="quorum for suspension: 4 of 5 by weight said yes, 1/1"):
        strict.amended(FOUR, "admission", key("se"), members=members)
    assert not strict.amended((*FOUR, "ke"), "admission", key("se"), members=members).roll.member("ke").active


def test_the_old_charter_counts_not_the_one_that_is_voted_on() -> None:
    """Three of five cannot lower the quorum to three of five."""
    quorums = {**ATLAS.roll.charter.quorums, "rules": Quorum(3, 5)}
    charter = replace(ATLAS.roll.charter, quorums=quorums)
    with pytest.raises(InvalidIdentity, match="quorum for rules: 3 of 5"):
        ATLAS.amended(FOUR[:3], "rules", charter=charter)
    easier = ATLAS.amended(FOUR, "rules", charter=charter)
    assert easier.amended(FOUR[:3], "rules", charter=ATLAS.roll.charter).roll.version == 3


def test_a_suspended_member_has_no_vote_no_nodes_and_no_say() -> None:
    after = ATLAS.amended(FOUR, "suspension", members=ATLAS.member("ke", state="suspended"))
    assert "ke" not in after.roll.voters
    with pytest.raises(InvalidIdentity, match="ke is suspended by the roll, version 2"):
        after.roll.require_node("ke")
    with pytest.raises(InvalidIdentity, match="not signed by the officer of a member that has a vote"):
        after.open(after.proposed("lift", bytes(32), "ke"))
    rotated = after.member("ke", officer_key=key("ke new").public)
    assert after.actions(after.signed(key("ke"), key("ke new"), members=rotated)) == {"admission"}
    lead = (*after.roll.leads, RollLead("kim", "ke", "Kim", key("kim").public))
    with pytest.raises(InvalidIdentity, match="officer of ke has not signed"):
        after.amended(("br", "fr", "in"), "admission", key("ke"), leads=lead)
    back = after.amended(("br", "fr", "in"), "admission", members=after.member("ke", state="active"))
    assert back.roll.require_node("ke").active


def test_the_lead_of_a_suspended_member_may_submit_nothing() -> None:
    assert ATLAS.roll.require_lead("ana").id == "ana"
    member = ATLAS.amended(FOUR, "suspension", members=ATLAS.member("br", state="suspended"))
    with pytest.raises(InvalidIdentity, match="ana may submit no job: br, its member, is suspended"):
        member.roll.require_lead("ana")
    lead = ATLAS.amended(FOUR, "suspension", leads=ATLAS.lead("ana", state="suspended"))
    with pytest.raises(InvalidIdentity, match="the lead ana is suspended"):
        lead.roll.require_lead("ana")


def test_members_and_leads_are_never_taken_off() -> None:
    for changes in ({"members": ATLAS.roll.members[:-1]}, {"leads": ()}):
        with pytest.raises(InvalidIdentity, match="leaves out"):
            ATLAS.amended(FOUR, "suspension", **changes)


def test_a_member_changes_its_key_with_the_old_one_and_without_a_vote() -> None:
    members = ATLAS.member("ke", officer_key=key("ke new").public)
    rotated = ATLAS.amended((), "admission", key("ke"), key("ke new"), members=members)
    assert rotated.roll.member("ke").officer_key == key("ke new").public
    assert decision_of(rotated.roll) is None
    new_keys = replace(rotated, keys={**rotated.keys, "ke": key("ke new")})
    with pytest.raises(InvalidIdentity, match="quorum"):
        rotated.amended((*FOUR[:3], "ke"), "rules", charter=replace(ATLAS.roll.charter, lease_seconds=10))
    assert new_keys.amended((*FOUR[:3], "ke"), "rules", charter=replace(ATLAS.roll.charter, lease_seconds=10))


def test_a_lost_key_is_replaced_by_vote_only() -> None:
    members = ATLAS.member("ke", officer_key=key("ke new").public)
    with pytest.raises(InvalidIdentity, match="needs one: ke has a new key"):
        ATLAS.amended((), "admission", key("ke new"), members=members)
    with pytest.raises(InvalidIdentity, match="new key of ke has not signed"):
        ATLAS.amended(FOUR, "admission", members=members)
    assert ATLAS.amended(FOUR, "admission", key("ke new"), members=members).roll.version == 2


def test_no_member_changes_anothers_key() -> None:
    members = ATLAS.member("ke", officer_key=key("mine").public)
    with pytest.raises(InvalidIdentity, match="no decision"):
        ATLAS.amended((), "admission", key("br"), key("mine"), members=members)


def test_the_nodes_that_the_old_key_signed_are_no_nodes_under_the_new_one() -> None:
    node = key("node ke-1")
    credential = sign_credential(node_request("atlas", "ke", "ke-1", node), "atlas", key("ke"), "ke", NOON, NOON + WEEK)
    assert verify_credential(credential, ATLAS.roll, NOON).node == "ke-1"
    members = ATLAS.member("ke", officer_key=key("ke new").public)
    rotated = ATLAS.amended((), "admission", key("ke"), key("ke new"), members=members)
    with pytest.raises(InvalidIdentity, match="not signed by the officer"):
        verify_credential(credential, rotated.roll, NOON)


def test_a_lead_is_vouched_for_by_its_own_member() -> None:
    assert ATLAS.amended((), "admission", key("fr"), **NEW_LEAD).roll.lead("bo").member == "fr"
    for other in ((), (key("br"),), (key("bo"),)):
        with pytest.raises(InvalidIdentity, match="officer of fr has not signed for its lead bo"):
            ATLAS.amended(FOUR, "admission", *other, **NEW_LEAD)


def test_where_the_charter_says_so_a_lead_needs_a_vote_as_well() -> None:
    voted = founded(charter=replace(Charter.standard(), leads_by="vote"))
    with pytest.raises(InvalidIdentity, match="needs one: bo"):
        voted.amended((), "admission", key("fr"), **NEW_LEAD)
    with pytest.raises(InvalidIdentity, match="officer of fr"):
        voted.amended(FOUR, "admission", **NEW_LEAD)
    assert voted.amended(FOUR, "admission", key("fr"), **NEW_LEAD).roll.require_lead("bo")
    replaced = {"leads": voted.lead("ana", key=key("ana new").public)}
    with pytest.raises(InvalidIdentity, match="needs one: the lead ana has a new key"):
        voted.amended((), "admission", key("br"), **replaced)
    assert voted.amended((), "admission", key("ana"), key("ana new"), **replaced).roll.version == 2


def test_what_is_exported_about_members_by_name_is_a_rule_that_members_vote_on() -> None:
    charter = replace(ATLAS.roll.charter, member_metrics=("connected",))
    assert ATLAS.actions(ATLAS.signed(charter=charter)) == {"rules"}
    with pytest.raises(InvalidIdentity, match="member_metrics"):
        ATLAS.amended((), "rules", charter=charter)
    opened = ATLAS.amended(FOUR, "rules", charter=charter)
    assert opened.roll.charter.member_metrics == ("connected",)
    assert opened.amended(FOUR, "rules", charter=ATLAS.roll.charter).roll.charter.member_metrics == ()


def test_a_leads_key_changes_by_itself_or_by_its_officer() -> None:
    leads = ATLAS.lead("ana", key=key("ana new").public)
    for by in ((key("ana"), key("ana new")), (key("br"),)):
        assert ATLAS.amended((), "admission", *by, leads=leads).roll.lead("ana").key == key("ana new").public
    for by in ((key("ana"),), (key("ana new"),), (key("fr"),), ()):
        with pytest.raises(InvalidIdentity, match="officer of br has not signed for its lead ana"):
            ATLAS.amended((), "admission", *by, leads=leads)


def test_an_officer_suspends_its_lead_and_only_a_vote_takes_it_back() -> None:
    suspended = ATLAS.amended((), "suspension", key("br"), leads=ATLAS.lead("ana", state="suspended"))
    back = suspended.lead("ana", state="active")
    with pytest.raises(InvalidIdentity, match="needs one: the lead ana is taken back"):
        suspended.amended((), "admission", key("br"), leads=back)
    assert suspended.amended(FOUR, "admission", leads=back).roll.require_lead("ana")


def test_a_lead_does_not_change_its_member() -> None:
    with pytest.raises(InvalidIdentity, match="moves from br to fr"):
        ATLAS.amended(FOUR, "admission", key("fr"), leads=ATLAS.lead("ana", member="fr"))


def test_a_node_is_revoked_by_its_officer_or_by_vote_and_of_its_own_member_only() -> None:
    mine = {"revoked": (revoked("ke"),)}
    after = ATLAS.amended((), "suspension", key("ke"), **mine)
    node = key("node ke-1")
    credential = sign_credential(node_request("atlas", "ke", "ke-1", node), "atlas", key("ke"), "ke", NOON, NOON + WEEK)
    with pytest.raises(InvalidIdentity, match="node of ke is revoked by the roll, version 2"):
        verify_credential(credential, after.roll, NOON)
    assert verify_credential(credential, after.roll, None).node == "ke-1"  # what it signed before still verifies
    with pytest.raises(InvalidIdentity, match="needs one: the node ke-1"):
        ATLAS.amended((), "suspension", key("br"), **mine)
    assert ATLAS.amended(FOUR, "suspension", **mine).roll.node_revoked("ke", node.public)
    # The key of another's node, under an own name, revokes nothing of the other's.
    sly = (replace(revoked("ke"), member="br"),)
    assert not ATLAS.amended((), "suspension", key("br"), revoked=sly).roll.node_revoked("ke", node.public)
    with pytest.raises(InvalidIdentity, match="needs one: the node ke-1 of ke is taken back"):
        after.amended((), "admission", key("ke"), revoked=())


@pytest.mark.parametrize(
    ("before", "after", "actions"),
    [
        ("candidate", "member", {"admission"}),
        ("member", "candidate", {"suspension"}),
        ("observer", "candidate", {"admission"}),
        ("member", "observer", {"suspension"}),
    ],
)
def test_tiers_rise_by_admission_and_fall_by_suspension(before: str, after: str, actions: set[str]) -> None:
    federation = founded(tiers={"ke": before})
    assert federation.actions(federation.signed(members=federation.member("ke", tier=after))) == actions


def test_observers_and_candidates_have_no_vote_and_observers_no_nodes() -> None:
    federation = founded("br", "fr", "in", "jp", "ke", tiers={"jp": "candidate", "ke": "observer"})
    assert federation.roll.voters == {"br": 1, "fr": 1, "in": 1}
    assert federation.roll.require_node("jp").tier == "candidate"
    with pytest.raises(InvalidIdentity, match="ke has no nodes: its tier is observer"):
        federation.roll.require_node("ke")
    credential = sign_credential(
        node_request("atlas", "ke", "ke-1", key("node")), "atlas", key("ke"), "ke", NOON, NOON + WEEK
    )
    with pytest.raises(InvalidIdentity, match="its tier is observer"):
        verify_credential(credential, federation.roll, NOON)
    with pytest.raises(InvalidIdentity, match="lacks its quorum"):
        federation.amended(("br", "jp", "ke"), "rules", charter=replace(Charter.standard(), lease_seconds=10))


def test_the_coordinator_moves_by_its_own_quorum() -> None:
    moved = replace(ATLAS.roll.charter, coordinator=Seat(("concord.example:7443",), bytes(32)))
    assert ATLAS.actions(ATLAS.signed(charter=moved)) == {"coordinator"}
    both = replace(moved, lease_seconds=10)
    assert ATLAS.actions(ATLAS.signed(charter=both)) == {"coordinator", "rules"}


def test_the_key_of_the_public_log_is_changed_by_the_quorum_for_the_coordinator_and_never_taken_away() -> None:
    first, second = (log_key("atlas", key(name).public) for name in ("log", "next log"))

    def seat(log: VerifierKey | None) -> Charter:
        return replace(Charter.standard(), coordinator=Seat(log=log))

    federation = founded(charter=seat(first))
    assert named_key(federation.roll) == NamedKey(first, 1)
    assert federation.actions(federation.signed(charter=seat(second))) == {"coordinator"}
    with pytest.raises(InvalidIdentity, match="no decision"):
        federation.amended((), "coordinator", key("br"), charter=seat(second))
    with pytest.raises(InvalidIdentity, match="lacks its quorum"):
        federation.amended(("br", "fr"), "coordinator", charter=seat(second))
    with pytest.raises(InvalidIdentity, match="does not name the key of the public log any more"):
        federation.actions(federation.signed(charter=seat(None)))
    with pytest.raises(InvalidIdentity, match="names the public log concord/other"):
        founded(charter=seat(log_key("other", bytes(32))))
    moved = federation.amended(FOUR, "coordinator", charter=seat(second))
    later = moved.amended(FOUR, "rules", charter=replace(seat(second), lease_seconds=10))
    assert named_key(later.roll) == NamedKey(second, 2)
    assert log_keys_of(later.roll) == (second, first)


def test_a_roll_from_before_the_logs_key_was_named_is_read_as_it_was_signed() -> None:
    assert "log" not in ATLAS.draft()["charter"]["coordinator"]  # type: ignore[index]
    assert (named_key(ATLAS.roll), log_key_of(ATLAS.roll), log_keys_of(ATLAS.roll)) == (None, None, ())


def test_a_name_or_a_jurisdiction_is_not_a_members_own_to_change() -> None:
    for changes in ({"name": "Another"}, {"jurisdiction": "FR"}):
        assert ATLAS.actions(ATLAS.signed(key("ke"), members=ATLAS.member("ke", **changes))) == {"admission"}


def test_a_roll_that_changes_nothing_or_does_not_follow_is_refused() -> None:
    with pytest.raises(InvalidIdentity, match="changes nothing"):
        ATLAS.amended((), "rules")
    for wrong in ({"version": 3}, {"previous": bytes(32)}, {"federation": "other"}):
        with pytest.raises(InvalidIdentity, match="follow"):
            ATLAS.amended((), "admission", key("fr"), **NEW_LEAD, **wrong)


def test_a_stranger_signs_no_roll() -> None:
    with pytest.raises(InvalidIdentity, match="signed by a stranger"):
        ATLAS.amended((), "admission", key("fr"), key("stranger"), **NEW_LEAD)


def test_a_decision_where_none_is_needed_is_refused() -> None:
    with pytest.raises(InvalidIdentity, match="needs no decision"):
        ATLAS.amended(FOUR, "admission", key("fr"), **NEW_LEAD)


def test_a_later_roll_alone_proves_nothing() -> None:
    envelope = ATLAS.signed(*ATLAS.keys.values(), members=ATLAS.member("ke", state="suspended"))
    with pytest.raises(InvalidIdentity, match="follows another"):
        Roll.open(envelope)


def test_a_federation_is_founded_in_good_standing() -> None:
    draft = ATLAS.draft(previous=b"", members=ATLAS.member("ke", state="suspended"))
    with pytest.raises(InvalidIdentity, match="founded with members and leads in good standing"):
        Roll.open(seal(draft, "roll", [ATLAS.keys[member.id] for member in ATLAS.roll.members]))


def test_somebody_keeps_a_vote() -> None:
    with pytest.raises(InvalidIdentity, match="Nobody on the membership roll has a vote"):
        ATLAS.draft(members=[replace(member, state="suspended") for member in ATLAS.roll.members])


def three_versions() -> tuple[Federation, Federation]:
    two = ATLAS.amended(FOUR, "admission", key("se"), **NEW_MEMBER)
    return two, two.amended((), "admission", key("fr"), leads=NEW_LEAD["leads"])


def test_a_history_is_one_chain_in_one_encoding() -> None:
    two, three = three_versions()
    data = three.roll.envelope
    steps = amendments_of(data)
    assert [step.roll.version for step in steps] == [2, 3]
    assert [step.decision is not None for step in steps] == [True, False]
    assert Roll.open(data).line == {1: ATLAS.roll.digest, 2: two.roll.digest, 3: three.roll.digest}
    assert digest(newest_envelope(three.roll)) == three.roll.digest
    assert amendments_of(ATLAS.roll.envelope) == ()
    for other in (data + b" ", data.replace(b":", b": ", 1), data[:-1], b'{"amendments":[],"founding":{}}'):
        with pytest.raises(InvalidIdentity):
            Roll.open(other)


def test_each_altered_byte_of_a_history_shows() -> None:
    data = three_versions()[1].roll.envelope
    for place in range(0, len(data), 53):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(InvalidIdentity):
            Roll.open(bytes(altered))


def test_what_continues_the_roll_that_is_held_is_taken_and_nothing_else() -> None:
    two, three = three_versions()
    assert succeeds(ATLAS.roll, three.roll)
    assert not succeeds(three.roll, three.roll)
    with pytest.raises(ProtocolViolation) as stale:
        succeeds(three.roll, two.roll)
    assert stale.value.check == "stale-roll"
    forked = ATLAS.amended((), "admission", key("fr"), **NEW_LEAD)
    for held, offered in ((two, forked), (three, forked), (forked, three)):
        with pytest.raises(ProtocolViolation) as fork:
            succeeds(held.roll, offered.roll)
        assert fork.value.check == "forked-roll"
        assert fork.value.evidence == offered.roll.envelope
    with pytest.raises(InvalidIdentity, match="is of"):
        succeeds(found().roll, three.roll)


def test_strangers_cannot_found_a_second_version() -> None:
    """A later founding roll, signed by all whom it lists, is no successor of anything."""
    usurped = founded("aa", "bb", "cc", version=2)
    with pytest.raises(ProtocolViolation) as fork:
        succeeds(ATLAS.roll, usurped.roll)
    assert fork.value.check == "foreign-roll"


def test_a_roll_from_before_there_were_charters_opens_and_can_be_amended() -> None:
    document = open_envelope(ATLAS.roll.envelope, "roll").document
    old = {name: document[name] for name in ("federation", "version")}
    old["members"] = [{k: v for k, v in m.items() if k not in ("tier", "state")} for m in document["members"]]
    old["leads"] = [{k: v for k, v in lead.items() if k != "state"} for lead in document["leads"]]
    envelope = seal(old, "roll", [ATLAS.keys[member.id] for member in ATLAS.roll.members])
    roll = Roll.open(envelope)
    assert (roll.charter, roll.members, roll.leads) == (Charter.standard(), ATLAS.roll.members, ATLAS.roll.leads)
    grown = replace(ATLAS, roll=roll).amended(FOUR, "admission", key("se"), **NEW_MEMBER)
    assert succeeds(roll, Roll.open(grown.roll.envelope))
    draft, signers = open_draft(replace(ATLAS, roll=roll).signed(key("se"), **NEW_MEMBER))
    assert [change.action for change in changes_of(roll, draft, signers)] == ["admission"]
