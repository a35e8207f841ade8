"""A node and a study: it is asked once, counts the runs on its own disk, and proves of each that it lies inside."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from federation.errors import InvalidUsage
from federation.identity.consent import Consent, open_consent
from federation.identity.envelope import canonical
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.revocation import consent_digest, open_revocation
from federation.manifest.manifest import Manifest
from federation.manifest.study import Study, Used
from federation.v1 import rounds_pb2
from node_agent.agent import NodeAgent
from node_agent.consent import deciding, studies
from node_agent.consent.listing import print_consents
from node_agent.consent.standing import ConsentOver
from node_agent.rounds import training
from node_agent.store.journal import Journal
from tests.unit.agent.hall import Bench
from tests.unit.agent.test_node_consents import POLICY, Node, asking, quiet
from tests.unit.identity.parties import APP
from tests.unit.manifest.studied import now, run_of, study_of

ALLOWS = POLICY.replace("minimumCohort: 3,", "minimumCohort: 3, study: {maxRuns: 10, maxDays: 60},")
"""whatever lies within these bounds, by rule"""


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, ALLOWS)


def by_people(node: Node) -> None:
    settings = node.home.settings()
    node.home.save(settings.model_copy(update={"consent": "person", "deciders": ("officer",)}))


def about(study: Study, envelope: bytes | None = None, digest: bytes | None = None) -> rounds_pb2.Instruction:
    ask = rounds_pb2.AskConsent(study=envelope or study.envelope)
    return rounds_pb2.Instruction(job=digest or study.digest, ask_consent=ask)


def runs(node: Node, study: Study, count: int, **settings: Any) -> list[Manifest]:
    return [run_of(node.parties, study, name=f"run-{n}", nonce=bytes([n] * 16), **settings) for n in range(count)]


def answer(node: Node, digest: bytes) -> Consent:
    """The last that the node said of it, and has on its disk."""
    said = [event.consent.envelope for event in node.said if event.job == digest and event.consent.envelope]
    assert said
    with node.running() as agent:
        record = agent.journal.consent(digest)
        assert record is not None
        assert record.envelope == said[-1]
        return open_consent(said[-1], agent.credential)


def used(node: Node, study: Study) -> Used:
    with Journal(node.home.journal, read_only=True) as journal:
        return journal.study_used(study.digest)


def granted_by_a_person(node: Node, study: Study) -> None:
    by_people(node)
    node.play(about(study))
    assert node.answers()[-1].waits_until
    node.play(then=lambda agent: agent.inbox.grant(study.name, "officer", ""))
    assert answer(node, study.digest).granted


# -------------------------------------------------------------------------------------------------------------- the study


def test_a_lab_whose_rules_name_no_study_denies_each(tmp_path: Path) -> None:
    node = Node(tmp_path, POLICY)
    study = study_of(node.parties)
    counted = node.play(
        about(study),
        then=lambda agent: agent.metrics.registry.get_sample_value("concord_node_denials_total", {"reason": "study"}),
    )
    assert counted == 1, "a study that is denied is a denial as a job's is"
    said = answer(node, study.digest)
    assert said.reasons == ("rules.study: the policy names none, and what it does not allow it denies",)
    node.play(asking(run_of(node.parties, study)))
    assert not node.consents()[-1].granted


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"runs": 11, "rounds": 100}, "rules.study.maxRuns: the study asks for runs 11, this lab allows 10"),
        (
            {"expires": moment_text(now() + timedelta(days=61, hours=-1))},
            "rules.study.maxDays: the study asks for days 61",
        ),
    ],
)
def test_the_rules_weigh_the_bounds_that_a_study_states(node: Node, bounds: dict[str, Any], reason: str) -> None:
    study = study_of(node.parties, **bounds)
    node.play(about(study))
    said = answer(node, study.digest)
    assert not said.granted
    assert said.reasons[0].startswith(reason)


def test_a_study_is_granted_once_and_its_consent_binds_what_all_runs_share(node: Node) -> None:
    study = study_of(node.parties)
    node.play(about(study), about(study))
    said = answer(node, study.digest)
    assert (said.job, said.granted, said.given.how) == (study.digest, True, "rule")  # type: ignore[union-attr]
    assert said.expires == study.expires
    assert said.binds is not None
    assert [name for name, _ in said.binds.data] == ["digits"]
    assert len({event.consent.envelope for event in node.said}) == 1
    assert used(node, study) == Used()
    assert node.restarted() == (), "a study is no job"


def test_a_study_that_is_not_what_its_lead_signed_is_not_considered(node: Node) -> None:
    study = study_of(node.parties)
    outer = json.loads(study.envelope)
    payload = base64.b64decode(outer["payload"]).replace(b'"runs":3', b'"runs":9')
    altered = canonical({**outer, "payload": base64.b64encode(payload).decode()})
    node.play(about(study, digest=bytes(32)), about(study, envelope=altered))
    strange = SigningKey.generate()
    with pytest.raises(Exception, match="not signed by the lead"):
        study_of(node.parties, key=strange)
    assert [type(each) for each in node.answers()] == [rounds_pb2.Refusal] * 2
    assert node.consents() == ()


def test_a_study_from_the_future_or_that_has_ended_is_denied(node: Node) -> None:
    late = study_of(node.parties, created=now() - timedelta(days=40), name="late")
    early = study_of(node.parties, created=now() + timedelta(days=2), name="early")
    node.play(about(late), about(early))
    assert answer(node, late.digest).reasons[0].startswith("study: it ended at ")
    assert answer(node, early.digest).reasons[0].startswith("study: it was made at ")


# --------------------------------------------------------------------------------------------------------------- its runs


def test_runs_inside_are_granted_under_the_studys_consent_and_counted_before_it_leaves(node: Node) -> None:
    study = study_of(node.parties)
    node.play(about(study))
    counted: list[int] = []

    def look(event: rounds_pb2.NodeEvent) -> None:
        with Journal(node.home.journal, read_only=True) as journal:
            counted.append(journal.study_used(study.digest).runs)
        node.said.append(event)

    first, second, *_ = runs(node, study, 2, rate=0.5, size=20)

    with node.running() as agent:
        agent.link.send = look  # type: ignore[method-assign]

        async def story() -> None:
            for each in (first, second):
                agent._hear(asking(each))
                await quiet(agent)
            for driver in list(agent.jobs.values()):
                await driver.stop()

        asyncio.run(story())
        record = agent.journal.consent(study.digest)
    assert counted[:1] == [1]
    assert counted[-1] == 2
    assert record is not None
    for each in (first, second):
        said = answer(node, each.digest)
        assert (said.granted, said.given.how, said.given.by) == (True, "study", "policy")  # type: ignore[union-attr]
        assert said.binds is not None
        assert said.binds.study == consent_digest(record.envelope)
        assert said.expires <= study.expires
    assert used(node, study) == Used(2, 8, 0)
    assert set(node.restarted()) == {first.digest, second.digest}


def test_one_run_more_has_no_place_whatever_is_replayed_restarted_or_answered_anew(node: Node) -> None:
    study = study_of(node.parties)
    every = runs(node, study, 5)
    node.play(about(study))
    for each in every[:3]:
        node.play(asking(each), asking(each))  # replayed: it has its place, and takes no other
    assert used(node, study) == Used(3, 12, 0)
    node.play(about(study), asking(every[0]), asking(every[3]))
    node.play(asking(every[3]), asking(every[4]))
    for each in every[3:]:
        said = answer(node, each.digest)
        assert not said.granted
        assert said.reasons == (
            "study: runs: the study has 3, and this would be run 4",
            "study: rounds: the study has 12, and with this run it takes 16",
        )
    assert used(node, study) == Used(3, 12, 0)
    assert set(node.restarted()) == {each.digest for each in every[:3]}


def test_a_run_that_ended_or_failed_keeps_its_place(node: Node) -> None:
    study = study_of(node.parties, runs=1)
    first, second = runs(node, study, 2)
    failed = rounds_pb2.Instruction(job=first.digest, job_failed=rounds_pb2.JobFailed(reason="nobody came"))
    node.play(about(study), asking(first), failed, asking(second))
    assert answer(node, first.digest).granted
    assert not answer(node, second.digest).granted


OTHER_CODE = {**APP, "tiny/client_app.py": b"app = 'another'\n"}
OUTSIDE: list[tuple[dict[str, Any], str]] = [
    ({"rate": 4.5}, "study: spec.runConfig.rate: 4.5 is not from 0.25 to 4"),
    ({"rate": 1}, "study: spec.runConfig.rate: 1 is no fraction (written with a point, such as 1.0)"),
    ({"size": 15}, "study: spec.runConfig.size: 15 is none of 10, 20"),
    ({"deep": True}, "study: spec.runConfig.deep: true, in the study false"),
    ({"more": "x"}, "study: spec.runConfig.more: x, in the study nothing"),
    ({"spec": {"rounds": 4}}, "study: spec.rounds: 4, in the study 3"),
    ({"metadata": {"labels": {"a": "b"}}}, "study: metadata.labels.a: b, in the study nothing"),
]


@pytest.mark.parametrize(("change", "reason"), OUTSIDE)
def test_a_run_outside_is_refused_with_what_differs_alone(node: Node, change: dict[str, Any], reason: str) -> None:
    study = study_of(node.parties)
    run = run_of(node.parties, study, **change)
    node.play(about(study), asking(run))
    said = answer(node, run.digest)
    assert not said.granted
    assert said.reasons == (reason,)
    assert used(node, study) == Used()
    assert node.restarted() == ()


def test_a_run_with_other_code_names_the_file(node: Node) -> None:
    study = study_of(node.parties)
    run = run_of(node.parties, study, files=OTHER_CODE)
    node.play(about(study), asking(run))
    fields = [reason.split(": ")[1] for reason in answer(node, run.digest).reasons]
    assert fields == ["spec.bundle.digest", "spec.bundle.files.tiny/client_app.py"]


def test_a_run_of_no_study_or_of_one_that_nobody_consented_to_has_no_place(node: Node) -> None:
    study = study_of(node.parties)
    inside, without = run_of(node.parties, study), run_of(node.parties, None, name="alone")
    node.play(asking(inside), asking(without))
    assert answer(node, inside.digest).reasons == (
        "study: this lab lets nothing run inside this study: it has not consented to it",
    )
    alone = answer(node, without.digest)
    assert alone.granted
    assert alone.given.how == "rule"  # type: ignore[union-attr]


def test_a_run_that_comes_with_its_study_waits_for_the_answer_to_that(node: Node) -> None:
    study = study_of(node.parties)
    run = run_of(node.parties, study)

    def both(agent: NodeAgent) -> Any:
        agent._hear(about(study))
        agent._hear(asking(run))
        return quiet(agent)

    node.play(then=both)
    assert answer(node, run.digest).granted


def test_data_of_another_version_lie_outside(node: Node) -> None:
    study = study_of(node.parties)
    first, second = runs(node, study, 2)
    node.play(about(study), asking(first))
    (node.site.path / "rows" / "new.csv").write_text("1\n")
    node.play(asking(second))
    assert answer(node, first.digest).granted
    assert answer(node, second.digest).reasons == (
        "study: data: digits is in another version than the study's consent is for",
    )


def test_data_that_only_grew_lie_inside_where_the_study_lets_more_come(node: Node) -> None:
    spec = {"dataSet": {"name": "digits", "versionRule": "minor"}}
    study = study_of(node.parties, spec=spec)
    first, second = runs(node, study, 2, spec=spec)
    (node.site.path / "rows" / "old.csv").write_text("0\n")
    node.play(about(study))
    (node.site.path / "rows" / "new.csv").write_text("1\n")
    node.play(asking(first))
    (node.site.path / "rows" / "old.csv").unlink()
    node.play(asking(second))
    assert answer(node, first.digest).granted
    assert answer(node, second.digest).reasons[0].startswith("study: data: digits is in another version")


def test_a_lab_that_narrows_its_rules_afterwards_is_heard(node: Node) -> None:
    study = study_of(node.parties)
    first, second = runs(node, study, 2)
    node.play(about(study), asking(first))
    node.home.policy_file.write_text(ALLOWS.replace("maxRuns: 10", "maxRuns: 2"))
    node.play(asking(second))
    assert answer(node, second.digest).reasons == ("rules.study.maxRuns: the study asks for runs 3, this lab allows 2",)


# ---------------------------------------------------------------------------------------------------------------- a person


def test_a_person_grants_a_study_and_is_asked_again_only_for_what_differs(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(node.parties)
    by_people(node)
    node.play(about(study))
    deciding.print_inbox(node.home)
    listed = capsys.readouterr().out
    assert f"search  {study.digest.hex()[:12]}  study  lead lead  until " in listed
    deciding.print_question(node.home, "search")
    shown = capsys.readouterr().out
    assert "study      3 runs, 12 rounds, 1Mi uploaded, until " in shown
    assert "study      varies: kind wide, narrow; rate 0.25 to 4; size 10, 20, and the seed of the first model" in shown
    granted_by_a_person(node, study)
    inside, beyond = run_of(node.parties, study, rate=2.5), run_of(node.parties, study, name="beyond", rate=5.5)
    node.play(asking(inside), asking(beyond))
    said = answer(node, inside.digest)
    assert (said.granted, said.given.how, said.given.by) == (True, "study", "officer")  # type: ignore[union-attr]
    assert node.answers()[-1].waits_until, "what lies outside waits for a person"
    deciding.print_question(node.home, "beyond")
    shown = capsys.readouterr().out
    assert "differs from the study that was consented to, and in nothing else:\n" in shown
    assert "    spec.runConfig.rate: 5.5 is not from 0.25 to 4\n" in shown
    assert "who asks" not in shown
    node.play(then=lambda agent: agent.inbox.grant("beyond", "", ""))
    alone = answer(node, beyond.digest)
    assert (alone.granted, alone.given.how) == (True, "person")  # type: ignore[union-attr]
    assert alone.binds is not None
    assert alone.binds.study == b""
    assert used(node, study) == Used(1, 4, 0), "what a person granted by itself is no run of the study"
    print_consents(node.home)
    assert "    study: 1 runs, 4 rounds and 0 bytes counted\n" in capsys.readouterr().out


def test_a_person_may_deny_a_study_and_its_runs_are_refused(node: Node) -> None:
    study = study_of(node.parties)
    by_people(node)
    node.play(about(study))
    run = run_of(node.parties, study)
    node.play(asking(run))
    assert answer(node, run.digest).reasons[0].endswith("its consent to it waits for a person")
    node.play(then=lambda agent: agent.inbox.deny("search", "", "not now", told=False))
    assert answer(node, study.digest).reasons == ("consent: a person at the lab (officer) denied",)


def test_rules_that_want_a_person_for_something_new_ask_about_a_run_inside(node: Node) -> None:
    study = study_of(node.parties)
    first, second, third = runs(node, study, 3)
    node.home.policy_file.write_text(ALLOWS.replace("study:", "askAbove: {rounds: 2}, study:"))
    node.play(about(study))
    node.play(then=lambda agent: agent.inbox.grant("search", "", ""))
    node.play(asking(first))
    assert answer(node, first.digest).granted, "the person saw that it has more than 2 rounds"
    node.home.policy_file.write_text(ALLOWS.replace("study:", "askAlways: true, askAbove: {rounds: 2}, study:"))
    node.play(asking(second))
    assert node.answers()[-1].waits_until
    with Journal(node.home.journal, read_only=True) as journal:
        question = journal.question(second.digest)
    assert question is not None
    assert question.differences == ()
    assert third.digest != second.digest


def test_a_study_that_rules_granted_is_no_persons_word_for_its_runs(node: Node) -> None:
    study = study_of(node.parties)
    run = run_of(node.parties, study)
    node.play(about(study))
    by_people(node)
    node.play(asking(run))
    assert node.answers()[-1].waits_until


# -------------------------------------------------------------------------------------------------------------------- ends


def test_revoking_a_study_ends_its_runs_and_refuses_later_ones(node: Node) -> None:
    study = study_of(node.parties)
    first, second, alone = run_of(node.parties, study), run_of(node.parties, study, name="b", rate=2.0), None
    alone = run_of(node.parties, None, name="alone", nonce=bytes(16))

    async def revoke(agent: NodeAgent) -> tuple[bytes, ...]:
        await agent.revoke(study.digest, "officer", "the board")
        return tuple(agent.jobs)

    left = node.play(about(study), asking(first), asking(alone), then=revoke)
    assert left == (alone.digest,)
    said = [event for event in node.said if event.WhichOneof("event") == "consent_revocation"]
    assert [event.job for event in said] == [study.digest, first.digest]
    node.play(asking(second), asking(first), about(study))
    assert answer(node, second.digest).reasons == ("study: this lab has revoked its consent to it",)
    assert [event.WhichOneof("event") for event in node.said[-2:]] == ["consent_revocation"] * 2
    assert node.restarted() == (alone.digest,)


def test_a_study_revoked_while_no_node_runs_ends_its_runs_at_the_start(node: Node) -> None:
    study = study_of(node.parties)
    run = run_of(node.parties, study)
    node.play(about(study), asking(run))
    told = deciding.revoke(node.home, "search", "", "the board")
    assert told.startswith("search: revoked.")
    assert node.restarted() == ()
    with node.running() as agent:
        envelope = agent.revocations.of(run.digest)
        assert envelope is not None
        assert open_revocation(envelope, agent.credential).cause == "person"


def test_a_studys_consent_ends_that_of_its_runs(node: Node) -> None:
    """Expiry, by the lab's own clock; and a consent to the study that is another by now."""
    study = study_of(node.parties)
    run = run_of(node.parties, study)

    def check(agent: NodeAgent) -> None:
        standing = agent.lab.standing
        assert standing.check(run, {}, datetime.now(UTC)).granted
        with pytest.raises(ConsentOver) as over:
            standing.check(run, {}, study.expires + timedelta(seconds=1))
        assert over.value.cause == "expired"

    node.play(about(study), asking(run), then=check)
    assert answer(node, run.digest).expires <= study.expires


def test_a_run_after_the_studys_end_is_refused(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(node.parties)
    node.play(about(study))
    monkeypatch.setattr(studies, "_now", lambda: study.expires + timedelta(seconds=1))
    run = run_of(node.parties, study)
    node.play(asking(run))
    assert answer(node, run.digest).reasons[0].startswith("study: this lab's consent to it ended at ")


def test_bytes_are_counted_once_for_each_attempt_before_they_leave(node: Node) -> None:
    study = study_of(node.parties, bytes="100k")
    first, second = runs(node, study, 2)

    def upload(agent: NodeAgent) -> None:
        standing = agent.lab.standing
        for _ in range(3):
            standing.charge_upload(first, b"one", 60_000)  # sent again, after a restart for instance
        standing.charge_upload(second, b"one", 40_000)
        with pytest.raises(ConsentOver, match="100,000 bytes"):
            standing.charge_upload(second, b"two", 1)

    node.play(about(study), asking(first), asking(second), then=upload)
    assert used(node, study) == Used(2, 8, 100_000)
    third = run_of(node.parties, study, name="third", rate=0.5)
    node.play(asking(third))
    assert answer(node, third.digest).reasons == ("study: bytes: the study uploads 100k, and they are used up",)


def test_a_journal_put_back_from_a_copy_lets_no_study_of_before_go_on(node: Node) -> None:
    study = study_of(node.parties)
    first, second = runs(node, study, 2)
    node.play(about(study))
    copy = node.home.journal.with_suffix(".copy")
    shutil.copy(node.home.journal, copy)
    node.play(asking(first))
    copy.replace(node.home.journal)
    node.play(asking(second), about(study))
    assert not answer(node, second.digest).granted
    said = answer(node, study.digest)
    assert not said.granted
    assert "nobody can count its runs" in said.reasons[0]


def test_a_node_that_lost_its_journal_does_not_begin_a_study_of_before_anew(node: Node) -> None:
    study = study_of(node.parties)
    node.play(about(study))
    node.home.journal.unlink()
    node.play(about(study))
    assert not answer(node, study.digest).granted


def test_a_journal_of_before_takes_studies(node: Node) -> None:
    """The form before had no tables for them."""
    import sqlite3
    from contextlib import closing

    node.play()
    with closing(sqlite3.connect(node.home.journal)) as disk, disk:
        for table in ("studies", "study_runs", "study_uploads", "verdicts"):
            disk.execute(f"DROP TABLE {table}")
        disk.execute("PRAGMA user_version=5")
    study = study_of(node.parties)
    node.play(about(study))
    assert answer(node, study.digest).granted


def test_privacy_of_all_runs_together_must_fit_the_data_sets_budget(node: Node) -> None:
    document = yaml.safe_load((node.home.root / "node.yaml").read_text())
    document["dataSets"]["digits"]["privacyBudget"] = {"epsilon": 6.0, "delta": 1e-6, "unit": "member"}
    (node.home.root / "node.yaml").write_text(yaml.safe_dump(document))
    privacy = {"mechanism": "skellam", "epsilon": 4.0, "delta": 1e-6, "unit": "member", "parameters": 1000}
    spec = {"privacy": privacy}
    wide = study_of(node.parties, spec=spec, epsilon=40.0)
    node.play(about(wide))
    assert answer(node, wide.digest).reasons[0].startswith("budget: of all runs together: ")
    one = study_of(node.parties, spec=spec, epsilon=4.0, runs=1)
    node.play(about(one))
    said = answer(node, one.digest)
    assert said.granted
    assert said.binds is not None
    assert sum(each.times for each in said.binds.budget) > 0


def test_a_question_that_is_decided_stays_so(node: Node) -> None:
    study = study_of(node.parties)
    granted_by_a_person(node, study)
    with pytest.raises(InvalidUsage, match="decided already"):
        node.play(then=lambda agent: agent.inbox.deny("search", "", "x", told=False))
