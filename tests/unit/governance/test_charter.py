"""What a charter says, what it may not say, and that it is read back as it was written."""

from dataclasses import replace
from typing import Any

import pytest

from federation.audit.checkpoint import log_key, witness_key
from federation.errors import InvalidIdentity
from federation.governance.charter import ACTIONS, Charter, Quorum, Seat, Tier, read_charter
from federation.identity.envelope import canonical
from tests.unit.governance.members import key

STANDARD = Charter.standard()
WHOLE = replace(
    STANDARD,
    base_policy="rules: {minimumCohort: 3} # für alle\n".encode(),
    audience="public",
    leads_by="vote",
    lease_seconds=60,
    coordinator=Seat(
        ("concord.example:7443", "[2001:db8::1]:7443"),
        bytes(range(32)),
        tuple(sorted((key("x").public, key("y").public))),
        log_key("atlas", key("log").public),
    ),
    member_metrics=("connected", "denials"),
)


@pytest.mark.parametrize("charter", [STANDARD, WHOLE])
def test_a_charter_reads_back_as_it_was_written(charter: Charter) -> None:
    document = charter.as_document()
    canonical(document)
    assert read_charter(document) == charter
    assert hash(read_charter(document)) == hash(charter)


def test_the_standard_charter_gives_each_member_one_vote_and_asks_for_two_thirds() -> None:
    assert {tier.name: (tier.votes, tier.nodes, tier.weight) for tier in STANDARD.tiers} == {
        "member": (True, True, 1),
        "candidate": (False, True, 0),
        "observer": (False, False, 0),
    }
    assert {action: str(quorum) for action, quorum in STANDARD.quorums.items()} == {
        **dict.fromkeys(ACTIONS, "2/3"),
        "recall": "1/3",
        "release": "none",
    }
    assert STANDARD.lease_seconds == 30


def test_a_charter_that_lists_no_figures_of_members_lets_none_be_exported() -> None:
    assert STANDARD.member_metrics == ()
    assert "memberMetrics" not in STANDARD.as_document(), "a roll from before there was this word reads the same"
    assert read_charter(change(memberMetrics=[])).member_metrics == ()


@pytest.mark.parametrize(
    ("quorum", "weight", "total", "reached"),
    [((2, 3), 2, 3, True), ((2, 3), 3, 5, False), ((2, 3), 4, 5, True), ((1, 1), 4, 5, False), ((2, 3), 0, 0, False)],
)
def test_a_quorum_is_a_share_of_all_who_have_a_vote(
    quorum: tuple[int, int], weight: int, total: int, reached: bool
) -> None:
    assert Quorum(*quorum).reached(weight, total) is reached


def test_a_charter_may_ask_for_no_vote_on_a_release_and_says_so() -> None:
    read = read_charter(change(quorums=quorums(release="none")))
    assert not read.quorums["release"].asked
    assert str(read.quorums["release"]) == "none"
    assert read_charter(change(quorums=quorums(release="2/3"))).quorums["release"].asked


def change(**changes: Any) -> dict[str, Any]:
    return {**WHOLE.as_document(), **changes}


def tier(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "member", "votes": True, "nodes": True, "weight": 1, **changes}]


def quorums(**changes: Any) -> dict[str, Any]:
    return {**WHOLE.as_document()["quorums"], **changes}


SEAT = WHOLE.as_document()["coordinator"]


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (change(veto=["br"]), "unknown veto"),
        ({name: value for name, value in change().items() if name != "halt"}, "lacks halt"),
        (change(tiers=[]), "nobody could ever decide"),
        (change(tiers=tier(votes=False, weight=0)), "nobody could ever decide"),
        (change(tiers=tier() * 2), "tier twice"),
        (change(tiers=tier(weight=0)), "a vote without weight"),
        (change(tiers=tier(votes=False)), "no vote, but weight"),
        (change(tiers=tier(weight=1001)), "from 0 to 1000"),
        (change(tiers=tier(weight=True)), "whole number"),
        (change(tiers=tier(votes=1)), "true or false"),
        (change(tiers="member"), "not a list"),
        (change(quorums=quorums(admission="1/2")), "not more than half"),
        (change(quorums=quorums(lift="1/3")), "not more than half"),
        (change(quorums=quorums(rules="4/3")), "more than all"),
        (change(quorums=quorums(rules="0/3")), "fraction"),
        (change(quorums=quorums(rules="none")), "fraction"),
        (change(quorums=quorums(recall="none")), "fraction"),
        (change(quorums=quorums(release="0/1")), "fraction"),
        (change(quorums=quorums(rules="2/03")), "fraction"),
        (change(quorums=quorums(rules=0.66)), "fraction"),
        (change(quorums=quorums(veto="2/3")), "unknown veto"),
        (change(leaseSeconds=4), "from 5 to 3600"),
        (change(leaseSeconds=30.0), "whole number"),
        (change(audience="everyone"), "none of"),
        (change(leadsBy=["member"]), "none of"),
        (change(memberMetrics=["accuracy"]), "figure that there is not"),
        (change(memberMetrics=["denials", "connected"]), "out of order"),
        (change(memberMetrics=["denials", "denials"]), "twice"),
        (change(memberMetrics="connected"), "not a list"),
        (change(basePolicy=""), "empty"),
        (change(basePolicy="é" * 20_000), "larger"),
        (change(halt={**change()["halt"], "job": ["anybody"]}), "role"),
        (change(halt={**change()["halt"], "federation": ["lead"]}), "role"),
        (change(halt={**change()["halt"], "job": ["officer", "lead"]}), "out of order"),
        (change(coordinator={**SEAT, "addresses": ["concord.example"]}), "address"),
        (change(coordinator={**SEAT, "addresses": ["concord.example:70000"]}), "address"),
        (change(coordinator={**SEAT, "addresses": ["a/b:1"]}), "address"),
        (change(coordinator={**SEAT, "addresses": ["a:1", "a:1"]}), "twice"),
        (change(coordinator={**SEAT, "ca": "00"}), "hex"),
        (change(coordinator={**SEAT, "operators": SEAT["operators"][::-1]}), "sorted"),
        (change(coordinator={**SEAT, "log": None}), "not a text"),
        (change(coordinator={**SEAT, "log": SEAT["log"] + "\n"}), "not the key of a log"),
        (change(coordinator={**SEAT, "log": SEAT["log"][:-4] + "AAA="}), "no key of a log"),
        (
            change(coordinator={**SEAT, "log": str(witness_key("atlas", "br", "br-1", bytes(32)))}),
            "not the key of a log",
        ),
    ],
)
def test_a_charter_that_misleads_is_refused(document: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidIdentity, match=match):
        read_charter(document)


def test_what_only_takes_back_may_be_decided_by_a_minority() -> None:
    charter = read_charter(change(quorums=quorums(recall="1/4")))
    assert charter.quorums["recall"].reached(1, 4)


def test_a_tier_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidIdentity, match="no tier 'founder'"):
        STANDARD.tier("founder")
    assert STANDARD.tier("member") == Tier("member", votes=True, nodes=True, weight=1)
