"""A consent is weighed again when what it rests on is another: the rules can take it away, for good, and never give one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from federation.errors import PolicyDenied
from federation.identity.consent import Consent, Given, open_consent
from federation.identity.revocation import (
    MAX_ENVELOPE,
    MOST_LETTERS,
    Revocation,
    open_revocation,
    sayable,
    seal_revocation,
)
from federation.policy.pack import Unread, load_pack
from federation.v1 import rounds_pb2
from node_agent.agent import NodeAgent
from node_agent.consent.account import explain
from node_agent.consent.decision import decide
from node_agent.consent.listing import print_consents
from node_agent.consent.standing import ConsentOver
from node_agent.consent.weighing import Weighed, weigh_again
from node_agent.rounds import training
from node_agent.store.journal import Journal
from node_agent.store.revocations import Revocations
from tests.unit.agent.hall import Bench
from tests.unit.agent.homes import manifest_of
from tests.unit.agent.test_consent_decision import PARTIES, SITUATION, WIDE, policy
from tests.unit.agent.test_node_consents import NOTHING, POLICY, Node, asking

MANIFEST = manifest_of(PARTIES)
CONSENT = decide(MANIFEST, SITUATION)
BY_PERSON = Given("person", "officer")
PACKS = (
    {"maxRounds": 1},
    {"maxRounds": 1000},
    {"leads": ["somebody"]},
    {"leads": ["lead", "somebody"]},
    {"minimumCohort": 9},
    {"askAlways": True},
    {"askAlways": True, "deputies": ["officer"]},
    {"deputies": ["board"]},
    {"expires": "2020-01-01"},
)
ORDER = {"stands": 0, "doubtful": 1, "over": 2}


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs() as lines:
        yield lines


def pack(number: int, rules: dict[str, Any]) -> Any:
    document = {
        "apiVersion": "concord/v1",
        "kind": "PolicyPack",
        "metadata": {"name": f"pack-{number}", "layer": "national", "serial": 1},
        "rules": rules,
    }
    return load_pack(yaml.safe_dump(document), f"pack-{number}.yaml")


def weighed(
    packs: Sequence[int] = (),
    unread: Sequence[Unread] = (),
    given: Given | None = CONSENT.given,
    consent: Consent = CONSENT,
    **at: Any,
) -> Weighed:
    base = at.pop("policy", SITUATION.policy)
    rules = base.under([pack(number, PACKS[number]) for number in packs], unread)
    return weigh_again(MANIFEST, consent, given, dataclasses.replace(SITUATION, policy=rules, **at))


def test_what_has_not_changed_takes_nothing_away() -> None:
    assert CONSENT.granted
    assert weighed() == Weighed("stands", (), weighed().verdict)


@given(
    some=st.sets(st.integers(0, len(PACKS) - 1)),
    more=st.sets(st.integers(0, len(PACKS) - 1)),
    how=st.sampled_from([CONSENT.given, BY_PERSON, None]),
    unread=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_further_pack_never_makes_a_consent_stand_that_did_not(
    some: set[int], more: set[int], how: Given | None, unread: bool
) -> None:
    trouble = [Unread("law.yaml", "national", "it cannot be read")] if unread else []
    fewer, all_of_them = weighed(sorted(some), (), how), weighed(sorted(some | more), trouble, how)
    assert ORDER[all_of_them.outcome] >= ORDER[fewer.outcome]
    assert (fewer.outcome == "stands") or fewer.reasons


@given(
    packs=st.sets(st.integers(0, len(PACKS) - 1)),
    how=st.sampled_from([CONSENT.given, BY_PERSON]),
)
@settings(max_examples=60, deadline=None)
def test_a_consent_stands_exactly_where_the_lab_would_give_it_in_the_same_way(packs: set[int], how: Given) -> None:
    rules = SITUATION.policy.under([pack(number, PACKS[number]) for number in sorted(packs)])
    anew = decide(MANIFEST, dataclasses.replace(SITUATION, policy=rules), how)
    stands = weighed(sorted(packs), (), how).outcome == "stands"
    if how.how == "rule":
        assert stands == anew.granted
    else:  # whoever granted it must be one who may
        assert not stands or anew.granted


@pytest.mark.parametrize(
    ("given", "deputies", "outcome"),
    [
        (CONSENT.given, None, "over"),
        (None, None, "over"),
        (BY_PERSON, None, "stands"),
        (BY_PERSON, ["officer", "board"], "stands"),
        (BY_PERSON, ["board"], "over"),
    ],
)
def test_where_a_person_must_decide_by_now_one_who_may_must_have(
    given: Given | None, deputies: list[str] | None, outcome: str
) -> None:
    rules = {**WIDE, "askAlways": True, **({"deputies": deputies} if deputies else {})}
    assert weighed(given=given, policy=policy(rules)).outcome == outcome


def test_the_hour_counts_as_it_was_when_the_lab_answered_and_the_day_as_it_is() -> None:
    """A node that starts at night has not changed its mind."""
    noon = SITUATION.now.replace(hour=12, minute=0)
    hours = policy(hours="08:00-18:00")
    consent = decide(MANIFEST, dataclasses.replace(SITUATION, policy=hours, now=noon))
    assert consent.granted
    night = noon.replace(hour=23)
    assert not decide(MANIFEST, dataclasses.replace(SITUATION, policy=hours, now=night)).granted
    assert weighed(consent=consent, policy=hours, now=night).outcome == "stands"
    narrower = policy(hours="13:00-18:00")
    assert weighed(consent=consent, policy=narrower, now=night).outcome == "over", "hours that the lab has changed"
    ends = policy({**WIDE, "expires": noon.date().isoformat()})
    assert weighed(consent=consent, policy=ends, now=night).outcome == "stands"
    assert weighed(consent=consent, policy=ends, now=night + timedelta(days=1)).outcome == "over"


def test_what_nobody_can_tell_lets_the_consent_rest_and_does_not_end_it() -> None:
    trouble = [Unread("law.yaml", "national", "it cannot be read")]
    assert weighed((), trouble).outcome == "doubtful"
    assert weighed((0,), trouble).outcome == "over", "what is denied is denied, whatever the other pack says"
    assert weighed(policy=policy(sandbox="required"), sandbox="none").outcome == "doubtful"
    assert weighed(data_sets={}).outcome == "doubtful"


def test_reasons_leave_as_far_as_a_revocation_may_carry_them() -> None:
    assert sayable(("a", "b")) == ("a", "b")
    many = tuple(f"{number} " + "ü" * 200 for number in range(100))
    said = sayable(many)
    assert said[-1] == "and more, which stays at the lab"
    assert sum(len(reason.encode()) for reason in said) <= MOST_LETTERS + 100
    assert set(said[:-1]) < set(many)


# ------------------------------------------------------------------------------------------------------------- a whole node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.play(asking(manifest_of(node.parties)))
    assert [record.granted for record in node.consents()] == [True]
    node.said.clear()
    return node


def revocation_of(node: Node, job: bytes) -> Revocation | None:
    envelope = Revocations(node.home.revocations).of(job)
    if envelope is None:
        return None
    with node.running() as agent:
        return open_revocation(envelope, agent.credential)


def other_rules(node: Node) -> None:
    node.home.policy_file.write_text(POLICY.replace("leads: [lead]", "leads: [somebody]"))


def a_pack(node: Node) -> None:
    node.home.packs.mkdir()
    (node.home.packs / "law.yaml").write_text(
        "apiVersion: concord/v1\nkind: PolicyPack\nmetadata: {name: law, layer: national, serial: 1}\nrules: {maxRounds: 1}\n"
    )


def nothing_at_all(node: Node) -> None:
    node.home.policy_file.write_text(NOTHING)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_rules, "rules.leads: lead lead is not allowed"),
        (a_pack, "rules.maxRounds: the job has 10 rounds, this lab allows 1 (national pack law, line 4)"),
        (nothing_at_all, "rules.leads: the policy names none, and what it does not allow it denies"),
    ],
)
def test_a_node_that_starts_under_rules_that_do_not_give_the_consent_takes_it_back_and_says_why(
    node: Node,
    change: Callable[[Node], None],
    says: str,
    logged: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = manifest_of(node.parties).digest
    assert node.restarted() == (job,)
    change(node)
    assert node.restarted() == ()
    over = revocation_of(node, job)
    assert over is not None
    assert (over.cause, over.by, over.reasons[0]) == ("rules", "policy", says)
    assert over.sentence.startswith("consent revoked by the lab's rules at ")
    assert over.sentence.endswith("; ".join(over.reasons))
    assert any(says in line["reasons"] for line in logged if line["event"] == "consent.over")
    (told,) = (answer for answer in node.answers() if isinstance(answer, rounds_pb2.ConsentRevocation))
    assert told.envelope == Revocations(node.home.revocations).of(job)
    with Journal(node.home.journal, read_only=True) as journal:
        taken, kept = journal.job(job), journal.verdicts(job)
    assert taken is not None
    assert taken.state == "revoked"
    assert [each.occasion for each in kept] == ["answered", "weighed"]
    assert json.loads(kept[1].document)["outcome"] == "denied"
    explain(node.home, "tiny")
    shown = capsys.readouterr().out
    assert "weighed    again at " in shown
    assert over.sentence in shown
    print_consents(node.home)
    assert f"    revoked: {'; '.join(over.reasons)}\n" in capsys.readouterr().out


def test_the_old_rules_do_not_bring_it_back(node: Node) -> None:
    manifest = manifest_of(node.parties)
    other_rules(node)
    assert node.restarted() == ()
    first = Revocations(node.home.revocations).of(manifest.digest)
    node.home.policy_file.write_text(POLICY)
    assert node.restarted() == ()
    node.play(asking(manifest))
    assert node.answers()[-1] == rounds_pb2.ConsentRevocation(envelope=first)
    assert node.worker.calls.count("train") == 0


def test_a_denied_job_is_not_consented_to_by_rules_that_would_allow_it_by_now(tmp_path: Path) -> None:
    node = Node(tmp_path, NOTHING)
    node.play(asking(manifest_of(node.parties)))
    node.home.policy_file.write_text(POLICY)
    said = len(node.said)
    assert node.restarted() == ()
    node.play(then=lambda agent: agent._amended())
    assert [record.granted for record in node.consents()] == [False]
    assert [each for each in node.answers()[said:] if isinstance(each, rounds_pb2.ConsentReply)] == []


def base(rules: str) -> Callable[[NodeAgent], None]:
    """The members have voted for a base pack: the node takes the roll that carries it."""

    def amends(agent: NodeAgent) -> None:
        text = f"apiVersion: concord/v1\nkind: PolicyPack\nmetadata: {{name: base, layer: base, serial: 1}}\nrules: {rules}\n"
        charter = dataclasses.replace(agent.roll.charter, base_policy=text.encode())
        agent.membership.roll = dataclasses.replace(agent.roll, version=agent.roll.version + 1, charter=charter)
        agent._amended()

    return amends


def test_a_base_pack_by_vote_takes_a_consent_away_while_the_job_runs_and_one_that_allows_it_does_not(
    node: Node,
) -> None:
    manifest = manifest_of(node.parties)

    async def story(agent: NodeAgent) -> list[bool]:
        await agent.jobs.take_up(manifest, fetch=False)
        found = []
        for rules in ("{maxRounds: 400}", "{maxRounds: 1}"):
            base(rules)(agent)
            while agent.own.tasks.running:
                await next(iter(agent.own.tasks.running))
            found.append(manifest.digest in agent.jobs)
        return found

    assert node.play(then=story) == [True, False]
    over = revocation_of(node, manifest.digest)
    assert over is not None
    assert over.reasons == ("rules.maxRounds: the job has 10 rounds, this lab allows 1 (base pack base, line 4)",)
    assert [type(each) for each in node.answers()] == [rounds_pb2.ConsentRevocation]


def test_a_pack_that_cannot_be_read_lets_the_consent_rest_until_it_can(node: Node, logged: list[Any]) -> None:
    """A slip of the pen in a national pack ends no job for good, and nothing is trained under it."""
    manifest = manifest_of(node.parties)
    a_pack(node)
    law = node.home.packs / "law.yaml"
    good = law.read_text().replace("maxRounds: 1}", "maxRounds: 100}")
    law.write_text("rules: [")

    def checked(agent: NodeAgent) -> Consent:
        return agent.lab.standing.check(manifest, {}, datetime.now(UTC))

    def story(agent: NodeAgent) -> None:
        assert agent.weighing.again(manifest).outcome == "doubtful"
        for _ in range(2):
            with pytest.raises(
                PolicyDenied, match="Nobody can tell whether this lab's rules still allow the job"
            ) as said:
                checked(agent)
            assert not isinstance(said.value, ConsentOver)
        assert any(line["event"] == "consent.rests" for line in logged)
        law.write_text(good)
        assert checked(agent).granted
        node.home.policy_file.write_text(NOTHING)
        assert checked(agent).granted, "the lab's own file is looked at when the node starts, or a roll comes"
        law.write_text("rules: [")
        node.home.policy_file.write_text(POLICY)
        agent.weighing.again(manifest)
        law.write_text(good.replace("maxRounds: 100}", "maxRounds: 1}").replace("serial: 1", "serial: 2"))
        with pytest.raises(ConsentOver, match=r"rules\.maxRounds") as over:
            checked(agent)
        assert over.value.cause == "rules"

    node.play(then=story)


def test_a_revocation_by_rules_says_its_reasons_and_no_other_carries_any(node: Node) -> None:
    with node.running() as agent:

        def sealed(**changes: Any) -> bytes:
            said = Revocation(
                bytes(32), bytes(32), "ch", agent.settings.node, "rules", "policy", datetime(2027, 1, 1, tzinfo=UTC)
            )
            said = dataclasses.replace(said, member=agent.settings.member, **changes)
            return seal_revocation(said, agent.key)

        by_rules = open_revocation(sealed(reasons=("rules.leads: no",)), agent.credential)
        assert by_rules.reasons == ("rules.leads: no",)
        by_person = open_revocation(sealed(cause="person", reasons=("a patient",)), agent.credential)
        assert by_person.reasons == (), "a person's words do not leave"
        assert len(sealed(reasons=sayable(["x" * 500] * 100))) < MAX_ENVELOPE
        record = node.consents()[0]
        assert open_consent(record.envelope, agent.credential).granted
