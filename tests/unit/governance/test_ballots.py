"""How votes are counted. Properties over votes of everybody, for everything, at any time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import InvalidIdentity
from federation.governance.ballot import decision_bytes, open_decision, read_decision, tally
from federation.governance.charter import Charter, Quorum, Tier
from federation.governance.proposal import Proposal, Vote, open_proposal, open_vote, seal_proposal, seal_vote
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from tests.unit.governance.members import NOON, WEEK, Federation, founded, key

TIERS = (
    Tier("great", votes=True, nodes=True, weight=3),
    Tier("member", votes=True, nodes=True, weight=1),
    Tier("candidate", votes=False, nodes=True, weight=0),
    Tier("observer", votes=False, nodes=False, weight=0),
)
WEIGHED = replace(Charter.standard(), tiers=TIERS, quorums={**Charter.standard().quorums, "release": Quorum(2, 3)})
FEDERATION = founded(
    "br", "fr", "in", "jp", "ke", "no", "us",
    charter=WEIGHED, tiers={"br": "great", "no": "candidate", "us": "observer"},
)  # fmt: skip
SUSPENDED = FEDERATION.amended(
    ("br", "in", "jp", "ke"), "suspension", members=FEDERATION.member("fr", state="suspended")
)
SUBJECT = bytes(range(32))
QUESTION = SUSPENDED.open(SUSPENDED.proposed("release", SUBJECT))
OTHER = replace(QUESTION, digest=bytes(32))
WHO = ("br", "fr", "in", "jp", "ke", "no", "us", "stranger", "ana")
WEIGHTS = {"br": 3, "in": 1, "jp": 1, "ke": 1}

votes = st.builds(
    lambda who, choice, question, minutes: Vote(
        question, choice, "", NOON + timedelta(minutes=minutes), key(who).public
    ),
    st.sampled_from(WHO),
    st.sampled_from(("yes", "no", "abstain", "comment")),
    st.sampled_from((QUESTION.digest, OTHER.digest)),
    st.sampled_from((-1, 0, 5, 7 * 24 * 60, 7 * 24 * 60 + 1)),
)


def fits(vote: Vote) -> bool:
    return (
        vote.proposal == QUESTION.digest
        and vote.choice != "comment"
        and NOON <= vote.cast <= NOON + WEEK
        and vote.signer in {key(who).public for who in WEIGHTS}
    )


@given(st.lists(votes, max_size=24), st.randoms())
def test_the_order_and_the_number_of_copies_do_not_matter(cast: list[Vote], random: object) -> None:
    shuffled = cast + cast[: len(cast) // 2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert tally(QUESTION, shuffled, SUSPENDED.roll) == tally(QUESTION, cast, SUSPENDED.roll)


@given(st.lists(votes, max_size=24))
def test_only_what_fits_counts_and_each_member_once(cast: list[Vote]) -> None:
    counted = tally(QUESTION, cast, SUSPENDED.roll)
    said = {who: {vote.choice for vote in cast if fits(vote) and vote.signer == key(who).public} for who in WEIGHTS}
    assert counted.choices == {who: next(iter(words)) for who, words in said.items() if len(words) == 1}
    for choice in ("yes", "no", "abstain"):
        expected = sum(WEIGHTS[who] for who, word in counted.choices.items() if word == choice)
        assert getattr(counted, choice) == expected
    assert counted.total == 6
    assert tally(QUESTION, [vote for vote in cast if fits(vote)], SUSPENDED.roll).choices == counted.choices


@given(st.lists(votes, max_size=24), st.integers(1, 12), st.integers(1, 12))
def test_nothing_passes_without_its_quorum_of_weight(cast: list[Vote], above: int, below: int) -> None:
    quorum = Quorum(min(above, below), max(above, below))
    counted = tally(QUESTION, cast, SUSPENDED.roll)
    yes = {who for who in WEIGHTS if any(fits(v) and v.choice == "yes" and v.signer == key(who).public for v in cast)}
    if counted.passes(quorum):
        assert sum(WEIGHTS[who] for who in yes) * quorum.denominator >= quorum.numerator * 6
    assert not (counted.passes(quorum) and counted.lost(quorum))


@given(st.lists(votes, max_size=12), votes)
def test_a_further_no_never_helps(cast: list[Vote], more: Vote) -> None:
    quorum = Quorum(2, 3)
    against = replace(more, choice="no")
    if not tally(QUESTION, cast, SUSPENDED.roll).passes(quorum):
        assert not tally(QUESTION, [*cast, against], SUSPENDED.roll).passes(quorum)


@given(st.lists(votes, max_size=12))
def test_under_another_roll_nothing_counts(cast: list[Vote]) -> None:
    counted = tally(QUESTION, cast, FEDERATION.roll)
    assert (counted.choices, counted.yes, counted.total) == ({}, 0, 0)
    assert not counted.passes(Quorum(1, 1000))


def test_who_does_not_count_is_told_with_the_reason() -> None:
    said = [
        Vote(QUESTION.digest, "yes", "", NOON, key(who).public) for who in ("fr", "no", "us", "stranger", "ana", "ke")
    ]
    said.append(Vote(QUESTION.digest, "no", "", NOON, key("ke").public))
    said.append(Vote(QUESTION.digest, "yes", "", NOON + WEEK + timedelta(seconds=1), key("br").public))
    said.append(Vote(OTHER.digest, "yes", "", NOON, key("in").public))
    counted = tally(QUESTION, said, SUSPENDED.roll)
    assert counted.choices == {}
    assert counted.ignored == (
        "a stranger: it has no vote",
        "br: the vote was not cast while the proposal was open",
        "fr: it has no vote",
        "in: the vote is for another proposal",
        "ke: it said two different things, and neither counts",
        "no: it has no vote",
        "us: it has no vote",
    )


def decided(federation: Federation, yes: Sequence[str], subject: bytes = SUBJECT) -> bytes:
    return federation.decided("release", subject, yes)


def test_a_decision_opens_with_its_quorum_and_only_for_its_question() -> None:
    data = decided(SUSPENDED, ("br", "in"))
    decision = open_decision(data, SUSPENDED.roll, "release", SUBJECT)
    assert (decision.tally.yes, decision.tally.total) == (4, 6)
    assert decision.data == data
    with pytest.raises(InvalidIdentity, match="about a release, and this takes one about a recall"):
        open_decision(data, SUSPENDED.roll, "recall", SUBJECT)
    with pytest.raises(InvalidIdentity, match="another subject"):
        open_decision(data, SUSPENDED.roll, "release", bytes(32))
    with pytest.raises(InvalidIdentity, match="another roll"):
        open_decision(data, FEDERATION.roll, "release", SUBJECT)


def test_a_decision_without_its_quorum_says_what_is_missing() -> None:
    with pytest.raises(InvalidIdentity, match="3 of 6 by weight said yes, 2/3 is needed"):
        open_decision(decided(SUSPENDED, ("br",)), SUSPENDED.roll, "release", SUBJECT)
    with pytest.raises(InvalidIdentity, match="quorum") as raised:
        open_decision(decided(SUSPENDED, ("in", "jp", "ke", "fr", "no")), SUSPENDED.roll, "release", SUBJECT)
    assert "fr: it has no vote" in raised.value.hint


def test_a_decision_is_one_file_of_one_encoding() -> None:
    data = decided(SUSPENDED, ("br", "in"))
    proposal, envelopes = read_decision(data)
    assert decision_bytes(proposal, envelopes[::-1] + envelopes) == data
    for other in (data.replace(b":", b": ", 1), data + b" ", b"[]", b"{}", b"\xff", b"[" * 100_000):
        with pytest.raises(InvalidIdentity):
            open_decision(other, SUSPENDED.roll, "release", SUBJECT)
    comment = SUSPENDED.cast(proposal, "us", "comment")
    assert decision_bytes(proposal, [*envelopes, comment]) == data


def test_each_altered_byte_of_a_decision_shows() -> None:
    data = decided(SUSPENDED, ("br", "in"))
    for place in range(0, len(data), 7):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(InvalidIdentity):
            open_decision(bytes(altered), SUSPENDED.roll, "release", SUBJECT)


def test_only_a_member_with_a_vote_proposes_and_a_lead_a_release() -> None:
    everywhere = replace(SUSPENDED, keys={who: key(who) for who in WHO})
    for who in ("fr", "no", "us", "stranger"):
        with pytest.raises(InvalidIdentity, match="not signed by the officer"):
            everywhere.open(everywhere.proposed("release", SUBJECT, who))
    assert everywhere.open(everywhere.proposed("release", SUBJECT, "ana")).action == "release"
    with pytest.raises(InvalidIdentity, match="not signed by the officer"):
        everywhere.open(everywhere.proposed("lift", SUBJECT, "ana"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", "veto"), ("action", ["lift"]), ("subject", "00"), ("roll", ""), ("title", ""), ("title", "a\nb"),
        ("closes", "2026-03-01T12:00:00Z"), ("closes", "2027-04-01T12:00:00Z"), ("nonce", "00"), ("extra", 1),
    ],
)  # fmt: skip
def test_a_malformed_proposal_is_refused(field: str, value: object) -> None:
    document = open_envelope(SUSPENDED.proposed("lift", SUBJECT), "proposal").document
    with pytest.raises(InvalidIdentity):
        open_proposal(seal({**document, field: value}, "proposal", (key("br"),)), SUSPENDED.roll)


@pytest.mark.parametrize(
    ("field", "value"),
    [("choice", "perhaps"), ("choice", 1), ("proposal", ""), ("reason", "x" * 1001), ("cast", "now"), ("extra", 1)],
)
def test_a_malformed_vote_is_refused(field: str, value: object) -> None:
    document = open_envelope(SUSPENDED.cast(SUSPENDED.proposed("lift", SUBJECT), "br"), "vote").document
    with pytest.raises(InvalidIdentity):
        open_vote(seal({**document, field: value}, "vote", (key("br"),)))


def test_a_document_that_two_signed_is_neither_a_proposal_nor_a_vote() -> None:
    proposal = SUSPENDED.proposed("lift", SUBJECT)
    document = open_envelope(proposal, "proposal").document
    with pytest.raises(InvalidIdentity, match="one signature"):
        open_proposal(seal(document, "proposal", (key("br"), key("in"))), SUSPENDED.roll)
    vote = open_envelope(SUSPENDED.cast(proposal, "br"), "vote").document
    with pytest.raises(InvalidIdentity, match="one signature"):
        open_vote(seal(vote, "vote", (key("br"), key("in"))))


def test_what_is_sealed_reads_back() -> None:
    signer = SigningKey.generate()
    vote = Vote(bytes(32), "abstain", "für später", NOON)
    read = open_vote(seal_vote(vote, signer))
    assert replace(read, signer=b"", envelope=b"") == vote
    assert read.signer == signer.public
    proposal = Proposal("atlas", "lift", bytes(32), SUSPENDED.roll.digest, "Go on", NOON, NOON + WEEK, bytes(16))
    opened = open_proposal(seal_proposal(proposal, key("ke")), SUSPENDED.roll)
    assert replace(opened, signer=b"", digest=b"", envelope=b"") == proposal
