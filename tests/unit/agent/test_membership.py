"""Which roll a node believes: only what continues its own, on disk first; an older or a forked one is refused, and seen."""

from dataclasses import replace
from pathlib import Path

import pytest

from federation.errors import InvalidIdentity
from federation.governance.charter import Seat
from federation.governance.holding import open_holding
from federation.identity.roll import Roll, RollLead
from node_agent.membership import Membership
from node_agent.settings import Home, NodeSettings
from node_agent.store.files import private_folder
from tests.unit.governance.members import Federation, founded, key

ATLAS = founded()
NODE = key("node fr-1")
SETTINGS = NodeSettings(member="fr", node="fr-1", federation="atlas", address="here.example:7443")
FOUR = ("br", "fr", "in", "jp")


def suspended(federation: Federation, who: str) -> Federation:
    yes = [each for each in federation.roll.voters if each != who]
    return federation.amended(yes, "suspension", members=federation.member(who, state="suspended"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    private_folder(tmp_path)
    home = Home(tmp_path)
    home.roll.write_bytes(ATLAS.roll.envelope)
    return home


def membership(home: Home) -> Membership:
    return Membership(home, SETTINGS, NODE)


def test_a_newer_roll_is_on_disk_before_anything_follows_from_it(home: Home) -> None:
    held, after = membership(home), suspended(ATLAS, "ke").roll
    adoption = held.offer(after.envelope, "coordinator")
    assert adoption is not None
    assert (adoption.before.version, adoption.after.version) == (1, 2)
    assert Roll.open(home.roll.read_bytes()) == after == held.roll == membership(home).roll
    assert held.offer(after.envelope, "coordinator") is None


def test_an_older_a_foreign_and_a_broken_roll_change_nothing(home: Home) -> None:
    held, after = membership(home), suspended(ATLAS, "ke").roll
    held.offer(after.envelope, "coordinator")
    for offered in (ATLAS.roll.envelope, founded("aa", "bb", "cc", version=9).roll.envelope, after.envelope[:-1], b""):
        assert held.offer(offered, "coordinator") is None
    assert home.roll.read_bytes() == after.envelope
    assert not held.forked
    held.check_may_decide()


def test_a_fork_is_kept_as_evidence_and_stops_new_jobs_until_a_person_has_decided(home: Home) -> None:
    """fr's officer signs two rolls of version 2 beside each other."""
    held = membership(home)
    one, other = (
        ATLAS.amended(
            (), "admission", key("fr"), leads=(*ATLAS.roll.leads, RollLead(who, "fr", who, key(who).public))
        ).roll
        for who in ("bo", "cy")
    )
    held.offer(one.envelope, "coordinator")
    assert held.offer(other.envelope, "coordinator") is None
    assert held.roll == one
    assert home.roll_fork.read_bytes() == other.envelope
    again = membership(home)  # also after a restart
    for each in (held, again):
        with pytest.raises(InvalidIdentity, match="two different rolls of one version"):
            each.check_may_decide()
    home.roll_fork.unlink()
    again.check_may_decide()


def test_a_node_whose_member_is_suspended_decides_nothing(home: Home) -> None:
    held, after = membership(home), suspended(ATLAS, "fr")
    held.offer(after.roll.envelope, "coordinator")
    assert "fr is suspended by the roll, version 2" in held.suspended
    with pytest.raises(InvalidIdentity, match="fr is suspended"):
        held.check_may_decide()
    back = after.amended(("br", "in", "jp"), "admission", members=after.member("fr", state="active"))
    held.offer(back.roll.envelope, "file")
    held.check_may_decide()


def test_a_node_says_under_its_own_key_which_roll_it_holds(home: Home) -> None:
    said = open_holding(membership(home).statement(), NODE.public)
    assert (said.member, said.node, said.version, said.roll) == ("fr", "fr-1", 1, ATLAS.roll.digest)


def moved(*addresses: str, ca: bytes | None = None) -> bytes:
    charter = replace(ATLAS.roll.charter, coordinator=Seat(addresses, ca))
    return ATLAS.amended(FOUR, "coordinator", charter=charter).roll.envelope


@pytest.mark.parametrize(
    ("addresses", "places"),
    [
        ((), ("here.example:7443",)),
        (("there.example:1",), ("there.example:1",)),
        (("there.example:1", "here.example:7443"), ("here.example:7443", "there.example:1")),
    ],
)
def test_a_node_goes_where_the_members_have_put_the_coordinator(
    home: Home, addresses: tuple[str, ...], places: tuple[str, ...]
) -> None:
    held = membership(home)
    held.offer(moved(*addresses, ca=bytes(32)), "coordinator")
    assert held.places == places
    held.check_coordinator(bytes(32))
    with pytest.raises(InvalidIdentity, match="moved the coordinator"):
        held.check_coordinator(bytes([1] * 32))
