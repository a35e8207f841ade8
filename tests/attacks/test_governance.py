"""43 forged votes, 44 a stale roll, 46b a hidden suspension: by a coordinator, by a member, by a stranger."""

from dataclasses import replace
from pathlib import Path

import pytest

from federation.errors import InvalidIdentity, ProtocolViolation
from federation.governance.ballot import decision_bytes, open_decision, read_decision
from federation.governance.history import extended, newest_envelope, succeeds
from federation.governance.holding import Holding, open_holding, seal_holding
from federation.identity.credential import node_request, once_verified, sign_credential, verify_credential
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead
from federation.secagg.messages import Announcement, Ready, Seat
from node_agent.membership import Membership
from node_agent.rounds.standing import Door
from node_agent.settings import Home, NodeSettings
from tests.unit.governance.members import NOON, WEEK, Federation, entry, founded, key

ATLAS = founded()
FOUR = ("br", "fr", "in", "jp")
SUSPENSION = ATLAS.signed(members=ATLAS.member("ke", state="suspended"))
DIGEST = open_envelope(SUSPENSION, "roll").digest
AFTER = ATLAS.amended(FOUR, "suspension", members=ATLAS.member("ke", state="suspended"))


# ------------------------------------------------------------------------------------------------------------ 43 forged votes


def test_a_forged_vote_decides_nothing() -> None:
    """In the name of a member, by whoever has not its key: three real ones and the forged fourth are three."""
    proposal = ATLAS.proposed("suspension", DIGEST)
    real = [ATLAS.cast(proposal, who) for who in ("br", "fr", "in")]
    document = open_envelope(ATLAS.cast(proposal, "jp"), "vote").document
    forger = SigningKey.generate()
    forged = seal(document, "vote", (forger,))
    with pytest.raises(InvalidIdentity, match=r"quorum for suspension: 3 of 5") as raised:
        extended(ATLAS.roll, SUSPENSION, decision_bytes(proposal, [*real, forged]))
    assert "a stranger: it has no vote" in raised.value.hint
    # Under jp's key id, with a signature by another key, it is no document at all.
    renamed = forged.replace(forger.public.hex().encode(), key("jp").public.hex().encode())
    with pytest.raises(InvalidIdentity, match="does not check"):
        decision_bytes(proposal, [*real, renamed])


def test_a_vote_is_carried_to_no_other_question() -> None:
    """Four said yes to letting se in; their votes are put under a proposal to suspend ke, and under one for another digest."""
    admission = ATLAS.signed(key("se"), members=(*ATLAS.roll.members, entry("se")))
    asked = ATLAS.proposed("admission", open_envelope(admission, "roll").digest)
    votes = [ATLAS.cast(asked, who) for who in FOUR]
    other = ATLAS.proposed("suspension", DIGEST)
    with pytest.raises(InvalidIdentity, match="0 of 5 by weight said yes") as raised:
        extended(ATLAS.roll, SUSPENSION, decision_bytes(other, votes))
    assert "for another proposal" in raised.value.hint
    with pytest.raises(InvalidIdentity, match="about a admission"):
        extended(ATLAS.roll, SUSPENSION, decision_bytes(asked, votes))


def test_a_vote_is_counted_once_however_often_it_is_shown() -> None:
    proposal = ATLAS.proposed("lift", bytes(32))
    votes = [ATLAS.cast(proposal, who) for who in ("br", "fr")]
    assert decision_bytes(proposal, votes * 3) == decision_bytes(proposal, votes)
    twice = decision_bytes(proposal, votes).replace(b'"votes":[', b'"votes":[' + sorted(votes)[0] + b",")
    with pytest.raises(InvalidIdentity, match="canonical"):
        read_decision(twice)
    with pytest.raises(InvalidIdentity, match="2 of 5"):
        open_decision(decision_bytes(proposal, votes * 3), ATLAS.roll, "lift", bytes(32))


def test_votes_of_those_who_have_none_any_more_count_no_more() -> None:
    """ke is suspended; a vote that it signed before, and its vote today, are both worth nothing."""
    old = ATLAS.proposed("rules", bytes(32))
    with pytest.raises(InvalidIdentity, match="another roll"):
        open_decision(
            decision_bytes(old, [ATLAS.cast(old, who) for who in ATLAS.roll.voters]), AFTER.roll, "rules", bytes(32)
        )
    new = AFTER.proposed("lift", bytes(32))
    data = decision_bytes(new, [AFTER.cast(new, who) for who in ("br", "fr", "ke")])
    with pytest.raises(InvalidIdentity, match=r"quorum for lift: 2 of 4"):
        open_decision(data, AFTER.roll, "lift", bytes(32))


def test_the_coordinator_cannot_add_or_impersonate_a_member() -> None:
    """It writes a roll with a member of its own, signs what it can, and has every old signature to copy."""
    mine = SigningKey.generate()
    crony = replace(entry("zz"), officer_key=mine.public)
    members = (*ATLAS.roll.members, crony)
    added = ATLAS.signed(mine, members=members)
    with pytest.raises(InvalidIdentity, match="has no decision of the members"):
        extended(ATLAS.roll, added, None)
    forger = replace(ATLAS, keys={**ATLAS.keys, "zz": mine})
    own = forger.decided("admission", open_envelope(added, "roll").digest, ("zz",), by="zz")
    with pytest.raises(InvalidIdentity, match="not signed by the officer of a member that has a vote"):
        extended(ATLAS.roll, added, own)
    stolen = decision_of_after()
    with pytest.raises(InvalidIdentity, match="about a suspension, and the roll changes admission"):
        extended(ATLAS.roll, added, stolen)
    swapped = ATLAS.signed(mine, members=ATLAS.member("ke", officer_key=mine.public))
    with pytest.raises(InvalidIdentity, match="has no decision"):
        extended(ATLAS.roll, swapped, None)


def decision_of_after() -> bytes:
    return ATLAS.decided("suspension", DIGEST, FOUR)


# --------------------------------------------------------------------------------------------------------- 44 a stale roll


@pytest.fixture
def node(tmp_path: Path) -> Membership:
    """Of br, with the roll as it was founded."""
    home = Home(tmp_path)
    home.roll.write_bytes(ATLAS.roll.envelope)
    return Membership(home, NodeSettings(member="br", node="br-1", federation="atlas"), key("node br-1"))


def test_a_stale_roll_is_refused_once_a_newer_one_is_held(node: Membership) -> None:
    node.offer(AFTER.roll.envelope, "coordinator")
    assert node.offer(ATLAS.roll.envelope, "coordinator") is None
    assert not node.roll.member("ke").active
    with pytest.raises(ProtocolViolation) as stale:
        succeeds(AFTER.roll, ATLAS.roll)
    assert stale.value.check == "stale-roll"
    # Also after a restart: it is on disk.
    assert not Roll.open(node._home.roll.read_bytes()).member("ke").active


def test_a_history_that_leaves_out_or_swaps_a_step_is_none() -> None:
    third = AFTER.amended(
        (), "admission", key("fr"), leads=(*AFTER.roll.leads, RollLead("bo", "fr", "Bo", key("bo").public))
    )
    with pytest.raises(InvalidIdentity, match="does not follow version 1"):
        extended(ATLAS.roll, newest_envelope(third.roll), None)
    restored = third.amended(("br", "in", "jp"), "admission", members=third.member("ke", state="active"))
    # The roll that takes ke back is older than a second suspension, and replays no more after it.
    again = restored.amended(FOUR, "suspension", members=restored.member("ke", state="suspended"))
    with pytest.raises(InvalidIdentity, match="does not follow version 5"):
        extended(
            again.roll,
            newest_envelope(restored.roll),
            third.decided("admission", restored.roll.digest, ("br", "in", "jp")),
        )


def test_two_rolls_of_one_version_are_seen_by_whoever_sees_both(node: Membership) -> None:
    def with_lead(who: str) -> Federation:
        return ATLAS.amended(
            (), "admission", key("fr"), leads=(*ATLAS.roll.leads, RollLead(who, "fr", who, key(who).public))
        )

    node.offer(with_lead("bo").roll.envelope, "coordinator")
    node.offer(with_lead("cy").roll.envelope, "coordinator")
    with pytest.raises(InvalidIdentity, match="two different rolls"):
        node.check_may_decide()
    assert Roll.open(node._home.roll_fork.read_bytes()).lead("cy").member == "fr"


# ------------------------------------------------------------------------------------------------- 46b a hidden suspension


def seats() -> tuple[Seat, ...]:
    return tuple(
        Seat(index, who, f"{who}-1", who.upper(), key(f"node {who}-1").public, b"", b"", b"", b"", 1)
        for index, who in enumerate(("br", "fr", "in", "jp", "ke"), start=1)
    )


def announced(attempt: int, *indices: int) -> Announcement:
    return Announcement(
        1, 3, attempt, tuple(Ready(index, 1, 3, attempt, b"", 0, b"") for index in indices), (), (), None
    )


def test_whoever_knows_of_a_suspension_takes_part_in_no_attempt_with_the_member() -> None:
    """The coordinator goes on as if nothing were: with q honest nodes that know, its attempt gets no quorum."""
    door = Door()
    assert door.refuses(announced(0, 1, 2, 3, 4, 5), seats(), ATLAS.roll) is None
    # The attempt that was let in before goes on to its end, also when it is told again.
    assert door.refuses(announced(0, 1, 2, 3, 4, 5), seats(), AFTER.roll) is None
    refused = door.refuses(announced(1, 1, 2, 3, 4, 5), seats(), AFTER.roll)
    assert refused is not None
    assert refused.check == "suspended-member"
    assert "Round 3 is announced with ke" in refused.message
    assert door.refuses(announced(1, 1, 2, 3, 4), seats(), AFTER.roll) is None


def test_no_roster_is_formed_with_a_suspended_member_by_a_node_that_knows() -> None:
    """n of n confirm a roster: one node that knows is enough. What the member signed before is verified for ever."""
    credential = sign_credential(
        node_request("atlas", "ke", "ke-1", key("node ke-1")), "atlas", key("ke"), "ke", NOON, NOON + WEEK
    )
    assert verify_credential(credential, ATLAS.roll, NOON).member == "ke"
    with pytest.raises(InvalidIdentity, match="ke is suspended"):
        verify_credential(credential, AFTER.roll, NOON)
    assert once_verified(credential, AFTER.roll, NOON).member == "ke"


def test_the_coordinator_cannot_say_for_a_node_that_it_knows() -> None:
    """What shows the hiding: the node's own signed word, which is old or missing where the others' is new."""
    node, liar = key("node fr-1"), SigningKey.generate()
    said = Holding("atlas", "fr", "fr-1", 1, ATLAS.roll.digest, NOON)
    old = seal_holding(said, node)
    assert open_holding(old, node.public).version == 1
    for forged in (seal_holding(replace(said, version=2), liar), old.replace(b"Mg", b"Mw")):
        if forged != old:
            with pytest.raises(InvalidIdentity):
                open_holding(forged, node.public)


def test_a_member_brings_the_roll_to_its_node_past_the_coordinator(node: Membership) -> None:
    assert node.offer(AFTER.roll.envelope, "file") is not None
    assert not node.roll.member("ke").active
    assert open_holding(node.statement(), key("node br-1").public).version == 2
