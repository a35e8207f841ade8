"""The coordinator keeps order among proposals and votes, and can decide nothing itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.registry.assembly import MOST_COMMENTS, MOST_OPEN, Assembly
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry, state_of
from coordinator.store.database import Database, NodeRow
from federation.errors import InvalidIdentity, InvalidUsage, NotFound, OutOfOrder
from federation.governance.ballot import open_decision
from federation.governance.charter import Seat
from federation.governance.holding import Holding, seal_holding
from federation.identity.credential import node_request, sign_credential
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead
from federation.identity.transport import Principal
from tests.unit.governance.members import NOON, WEEK, Federation, entry, founded, key, revoked


@dataclass
class House:
    """A coordinator of a founded federation, and its members with their keys."""

    folder: Path
    members: Federation = field(default_factory=lambda: founded(tiers={"jp": "candidate", "ke": "observer"}))
    now: datetime = NOON
    told: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database(self.folder / "coordinator.db")
        authority = Authority.create("atlas", datetime.now(UTC))
        self.registry = Registry(self.database, authority, timedelta(hours=1), lambda: self.now.timestamp())
        self.registry.found(self.members.roll.envelope)
        self.assembly = Assembly(self.registry, [lambda old, new: self.told.append((old.version, new.version))])

    def suspension(self, who: str = "fr", by: str = "br") -> tuple[bytes, bytes]:
        """(proposal, draft)"""
        draft = self.members.signed(members=self.members.member(who, state="suspended"))
        return self.members.proposed("suspension", open_envelope(draft, "roll").digest, by), draft


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.database.close()


def test_votes_bring_a_new_roll_into_force_and_everybody_is_told(house: House) -> None:
    """Three have a vote: two thirds of them are two."""
    proposal, draft = house.suspension()
    assert house.assembly.propose(proposal, draft).standing == "open"
    assert house.assembly.vote(house.members.cast(proposal, "br")).standing == "open"
    assert house.registry.roll().version == 1
    after = house.assembly.vote(house.members.cast(proposal, "in"))
    assert (after.standing, after.reason) == ("in-force", "version 2 of the roll")
    assert house.told == [(1, 2)]
    assert not house.registry.roll().member("fr").active
    with pytest.raises(InvalidIdentity, match="fr is suspended by the roll, version 2"):
        house.registry.ticket(Principal("node", "fr", "fr-1"), "127.0.0.1:1", 1.0)


def test_whoever_has_no_vote_may_comment_and_no_more(house: House) -> None:
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    for who in ("jp", "ke"):
        with pytest.raises(InvalidIdentity, match=f"{who} has no vote"):
            house.assembly.vote(house.members.cast(proposal, who))
        commented = house.assembly.vote(house.members.cast(proposal, who, "comment"))
    assert len(commented.votes) == 2
    assert commented.standing == "open"
    for minute in range(1, MOST_COMMENTS):
        house.assembly.vote(house.members.cast(proposal, "ke", "comment", NOON + timedelta(minutes=minute)))
    with pytest.raises(OutOfOrder, match="said 20 things"):
        house.assembly.vote(house.members.cast(proposal, "ke", "comment", NOON + timedelta(hours=1)))


def test_a_stranger_neither_votes_nor_proposes(house: House) -> None:
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    strange = replace(house.members, keys={"operator": SigningKey.generate()})
    with pytest.raises(InvalidIdentity, match="not signed by the officer of a member"):
        house.assembly.vote(strange.cast(proposal, "operator"))
    with pytest.raises(InvalidIdentity, match="not signed by the officer"):
        house.assembly.propose(strange.proposed("lift", bytes(32), "operator"), b"")


def test_a_vote_is_final_and_the_same_one_twice_is_one(house: House) -> None:
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    for _ in range(3):
        assert len(house.assembly.vote(house.members.cast(proposal, "br")).votes) == 1
    with pytest.raises(OutOfOrder, match="br has voted on this before"):
        house.assembly.vote(house.members.cast(proposal, "br", "no"))


def test_a_vote_comes_while_the_proposal_is_open(house: House) -> None:
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    with pytest.raises(OutOfOrder, match="not cast while"):
        house.assembly.vote(house.members.cast(proposal, "br", "yes", NOON + timedelta(days=1)))
    house.now = NOON + WEEK + timedelta(seconds=1)
    with pytest.raises(OutOfOrder, match="is closed"):
        house.assembly.vote(house.members.cast(proposal, "br"))
    with pytest.raises(OutOfOrder, match="not open now"):
        house.assembly.propose(*house.suspension("in"))


def test_a_proposal_says_what_its_roll_does(house: House) -> None:
    draft = house.members.signed(members=house.members.member("fr", state="suspended"))
    digest = open_envelope(draft, "roll").digest
    with pytest.raises(InvalidIdentity, match="called a admission, and the roll needs a vote on suspension"):
        house.assembly.propose(house.members.proposed("admission", digest), draft)
    with pytest.raises(InvalidIdentity, match="about another roll"):
        house.assembly.propose(house.members.proposed("suspension", bytes(32)), draft)
    with pytest.raises(InvalidUsage, match="brings the roll"):
        house.assembly.propose(house.members.proposed("suspension", digest), b"")
    with pytest.raises(InvalidUsage, match="brings no roll"):
        house.assembly.propose(house.members.proposed("lift", digest), draft)


def test_a_newcomer_signs_before_it_is_proposed(house: House) -> None:
    members = (*house.members.roll.members, entry("se"))
    draft = house.members.signed(members=members)
    proposal = house.members.proposed("admission", open_envelope(draft, "roll").digest)
    with pytest.raises(InvalidIdentity, match="se has not signed the roll"):
        house.assembly.propose(proposal, draft)
    house.assembly.propose(proposal, house.members.signed(key("se"), members=members))
    for who in ("br", "fr"):
        house.assembly.vote(house.members.cast(proposal, who))
    assert house.registry.roll().member("se").active


def test_what_was_voted_under_an_older_roll_is_overtaken(house: House) -> None:
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    lead = (*house.members.roll.leads, RollLead("bo", "in", "Bo", key("bo").public))
    house.assembly.amend(house.members.signed(key("in"), leads=lead), None)
    assert house.assembly.question(open_envelope(proposal, "proposal").digest.hex()).standing == "overtaken"
    with pytest.raises(OutOfOrder, match="overtaken"):
        house.assembly.vote(house.members.cast(proposal, "br"))
    with pytest.raises(InvalidIdentity, match="does not follow version 2"):
        house.assembly.amend(house.members.signed(key("fr"), leads=lead), None)


def test_a_member_does_not_escape_a_vote_by_changing_its_key(house: House) -> None:
    proposal, draft = house.suspension("fr")
    house.assembly.propose(proposal, draft)
    escape = house.members.signed(
        key("fr"), key("fr new"), members=house.members.member("fr", officer_key=key("fr new").public)
    )
    with pytest.raises(OutOfOrder, match="suspension of fr is voted on"):
        house.assembly.amend(escape, None)
    lead = (*house.members.roll.leads, RollLead("bo", "in", "Bo", key("bo").public))
    assert house.assembly.amend(house.members.signed(key("in"), leads=lead), None).version == 2


def test_a_decision_by_file_counts_as_one_that_was_voted_here(house: House) -> None:
    draft = house.members.signed(members=house.members.member("fr", state="suspended"))
    digest = open_envelope(draft, "roll").digest
    for who in (("br",), ("br", "jp", "ke")):
        with pytest.raises(InvalidIdentity, match="lacks its quorum"):
            house.assembly.amend(draft, house.members.decided("suspension", digest, who))
    assert house.assembly.amend(draft, house.members.decided("suspension", digest, ("br", "in"))).version == 2


def test_other_rooms_get_the_decision_of_a_proposal_that_passed(house: House) -> None:
    proposal = house.members.proposed("lift", bytes(range(32)))
    digest = house.assembly.propose(proposal, b"").proposal.digest.hex()
    house.assembly.vote(house.members.cast(proposal, "br"))
    with pytest.raises(OutOfOrder, match="1 of 3 by weight yes"):
        house.assembly.decision(digest)
    assert house.assembly.vote(house.members.cast(proposal, "fr")).standing == "passed"
    decision = open_decision(house.assembly.decision(digest), house.members.roll, "lift", bytes(range(32)))
    assert set(decision.tally.choices) == {"br", "fr"}
    # What passed stays decided when the roll changes after it.
    suspension, draft = house.suspension("in")
    house.assembly.propose(suspension, draft)
    for who in ("br", "fr"):
        house.assembly.vote(house.members.cast(suspension, who))
    assert house.assembly.question(digest).standing == "passed"
    with pytest.raises(NotFound):
        house.assembly.question("ffffff")


def test_a_lost_proposal_is_told_as_soon_as_it_cannot_pass(house: House) -> None:
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    house.assembly.vote(house.members.cast(proposal, "fr", "no"))
    assert house.assembly.vote(house.members.cast(proposal, "in", "abstain")).standing == "lost"


def test_nobody_floods_the_assembly(house: House) -> None:
    for number in range(MOST_OPEN):
        house.assembly.propose(house.members.proposed("lift", bytes([number] * 32)), b"")
    with pytest.raises(OutOfOrder, match="open proposals"):
        house.assembly.propose(house.members.proposed("lift", bytes([99] * 32)), b"")
    assert house.assembly.propose(house.members.proposed("lift", bytes([99] * 32), "fr"), b"").standing == "open"


# ------------------------------------------------------------------------------------------------ what the operator can do


def test_the_operator_cannot_put_a_roll_of_its_own_in_place(house: House) -> None:
    usurped = founded("aa", "bb", "cc", version=9)
    with pytest.raises(InvalidUsage, match="founded by others"):
        house.registry.found(usurped.roll.envelope)
    with pytest.raises(InvalidIdentity, match="follows another"):
        house.registry.found(house.members.signed(members=house.members.member("fr", state="suspended")))
    house.registry.found(house.members.roll.envelope)
    assert house.registry.roll() == house.members.roll


def test_another_coordinator_takes_the_history_over_if_the_charter_names_it(tmp_path: Path, house: House) -> None:
    there = tmp_path / "there"
    there.mkdir()
    database = Database(there / "coordinator.db")
    authority = Authority.create("atlas", datetime.now(UTC))
    registry = Registry(database, authority, timedelta(hours=1), lambda: NOON.timestamp())
    moved = replace(house.members.roll.charter, coordinator=Seat(("there.example:7443",), authority.fingerprint))
    after = house.members.amended(("br", "fr"), "coordinator", charter=moved)
    with pytest.raises(InvalidUsage, match="names another coordinator's CA"):
        house.registry.found(after.roll.envelope)
    assert registry.found(after.roll.envelope).charter.coordinator.addresses == ("there.example:7443",)
    with pytest.raises(InvalidUsage, match="version 2 is held here"):
        registry.found(house.members.roll.envelope)
    database.close()


def enrolled(house: House, member: str) -> SigningKey:
    node = key(f"node {member}-1")
    request = node_request("atlas", member, f"{member}-1", node)
    credential = sign_credential(request, "atlas", house.members.keys[member], member, NOON, NOON + WEEK)
    with house.database.transaction() as change:
        change.put_node(NodeRow(member, f"{member}-1", credential, "active", 0.0))
    return node


def test_whoever_is_put_out_is_refused_at_once(house: House) -> None:
    for member in ("fr", "in"):
        enrolled(house, member)
    nodes = {who: Principal("node", who, f"{who}-1", federation="atlas") for who in ("fr", "in")}
    lead = Principal("lead", name="ana", federation="atlas")
    for caller in (*nodes.values(), lead):
        house.registry.admit(caller)
    house.members = house.members.amended((), "suspension", key("in"), revoked=(revoked("in"),))
    house.registry.found(house.members.roll.envelope)
    house.members = house.members.amended(
        ("br", "in"), "suspension", members=house.members.member("fr", state="suspended")
    )
    house.members = house.members.amended(
        (), "suspension", key("br"), leads=house.members.lead("ana", state="suspended")
    )
    house.registry.found(house.members.roll.envelope)
    for caller, why in ((nodes["fr"], "fr is suspended"), (nodes["in"], "is revoked"), (lead, "ana is suspended")):
        with pytest.raises(InvalidIdentity, match=why):
            house.registry.admit(caller)
    house.registry.admit(Principal("officer", name="fr", federation="atlas"))
    with house.database.transaction() as change:
        rows = change.nodes()
    roll = house.registry.roll()
    states = {row.member: state_of(row, roll) for row in rows}
    assert states == {"fr": "suspended", "in": "revoked"}


def test_only_the_node_itself_says_which_roll_it_holds(house: House) -> None:
    node = enrolled(house, "fr")
    said = Holding("atlas", "fr", "fr-1", 1, house.members.roll.digest, NOON)
    house.assembly.held("fr", "fr-1", seal_holding(said, node))
    with pytest.raises(InvalidIdentity, match="not signed by that node"):
        house.assembly.held("fr", "fr-1", seal_holding(replace(said, version=2), SigningKey.generate()))
    with pytest.raises(InvalidIdentity, match="another node's roll"):
        house.assembly.held("fr", "fr-1", seal_holding(replace(said, member="in"), node))
    with house.database.transaction() as change:
        assert [(row.member, row.version) for row in change.assembly.holders()] == [("fr", 1)]


def test_an_unfounded_coordinator_holds_no_vote(tmp_path: Path) -> None:
    database = Database(tmp_path / "coordinator.db")
    registry = Registry(database, Authority.create("atlas", datetime.now(UTC)), timedelta(hours=1), lambda: 0.0)
    with pytest.raises(NotFound, match="not founded"):
        Assembly(registry).propose(b"", b"")
    with pytest.raises(InvalidIdentity):
        Roll.open(seal({}, "roll", ()))
    database.close()


def test_an_observer_reads_and_comments_and_has_no_vote_no_question_and_no_node(house: House) -> None:
    """ke. That it checks the public log without a node: tests/e2e/test_public_log.py."""
    officer = Principal("officer", name="ke", federation="atlas")
    house.registry.admit(officer)
    assert house.registry.ticket(officer, "here.example:7443", 1.0)
    with pytest.raises(InvalidIdentity, match="ke has no nodes: its tier is observer"):
        house.registry.ticket(Principal("node", "ke", "ke-1"), "here.example:7443", 1.0)
    proposal, draft = house.suspension()
    house.assembly.propose(proposal, draft)
    said = house.assembly.vote(house.members.cast(proposal, "ke", "comment"))
    assert (said.standing, len(said.votes)) == ("open", 1)
    for choice in ("yes", "no", "abstain"):
        with pytest.raises(InvalidIdentity, match="ke has no vote: its tier is observer"):
            house.assembly.vote(house.members.cast(proposal, "ke", choice))
    with pytest.raises(InvalidIdentity, match="not signed by the officer of a member that has a vote"):
        house.assembly.propose(house.members.proposed("lift", bytes(32), "ke"), b"")
