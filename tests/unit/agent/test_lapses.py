"""A lab that was put out and taken back: its consent has lapsed, whatever it heard and when; what it has said, it remembers."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from federation.identity.consent import BY_RULE, Binding, Consent, Outputs, seal_consent
from federation.identity.credential import NodeCredential
from federation.identity.fields import moment_text
from federation.identity.roll import RevokedNode, Roll
from federation.secagg import codec
from federation.secagg.votes import HELD, Held
from node_agent.consent.lapses import Lapses
from node_agent.store.journal import ConsentRecord, Journal
from tests.unit.governance.members import NOON, Federation, founded, key

ATLAS = founded()
KEY = key("node fr-1")
JOB = hashlib.sha256(b"a job").digest()
OTHERS = ("br", "in", "jp", "ke")
NODE = NodeCredential("atlas", "fr", "fr-1", "FR", KEY.public, NOON, NOON + timedelta(days=90), b"", bytes(32))


def suspended(federation: Federation) -> Federation:
    return federation.amended(OTHERS, "suspension", members=federation.member("fr", state="suspended"))


def restored(federation: Federation) -> Federation:
    return federation.amended(OTHERS[:3], "admission", members=federation.member("fr", state="active"))


OUT = suspended(ATLAS)
BACK = restored(OUT)


def consent(roll: Roll, *, granted: bool = True) -> ConsentRecord:
    binds = Binding((("scans", bytes(32)),), bytes(32), roll.digest, (), Outputs("blind", "", ()), b"")
    said = Consent(
        JOB, "fr", "fr-1", granted, ("yes",), "scans", 1, (), (), NOON, NOON + timedelta(days=30), binds, BY_RULE
    )  # fmt: skip
    return ConsentRecord(JOB, "tiny", "ana", granted, said.reasons, seal_consent(said, KEY), moment_text(NOON))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


def lapses(journal: Journal, federation: Federation) -> Lapses:
    return Lapses(journal, NODE, lambda: federation.roll)


@pytest.mark.parametrize("now", [OUT, BACK, restored(suspended(BACK))], ids=["out", "back", "twice"])
def test_a_consent_lapses_with_the_suspension_also_when_the_node_first_hears_of_it_when_it_is_over(
    journal: Journal, now: Federation
) -> None:
    journal.answer(consent(ATLAS.roll), b"manifest")
    assert lapses(journal, ATLAS).why(JOB) == ""
    assert "The member fr is suspended by the roll, version 2" in lapses(journal, now).why(JOB)


def test_a_consent_lapses_with_the_nodes_own_key(journal: Journal) -> None:
    journal.answer(consent(ATLAS.roll), b"manifest")
    gone = ATLAS.amended((), "suspension", key("fr"), revoked=(RevokedNode("fr", "fr-1", KEY.public),))
    assert "This node of fr is revoked by the roll, version 2" in lapses(journal, gone).why(JOB)


def test_another_members_suspension_ends_nobody_elses_consent(journal: Journal) -> None:
    journal.answer(consent(ATLAS.roll), b"manifest")
    other = ATLAS.amended(("br", "fr", "in", "jp"), "suspension", members=ATLAS.member("ke", state="suspended"))
    assert lapses(journal, other).why(JOB) == ""


def test_a_fresh_consent_stands_and_goes_on_from_what_the_lab_has_said(journal: Journal) -> None:
    journal.answer(consent(ATLAS.roll), b"manifest")
    journal.remember(JOB, {HELD: codec.encode(Held(7, b"s" * 32), Held)})
    before = journal.records(JOB)
    journal.lapse(JOB, "put out")
    held = lapses(journal, BACK)
    assert held.lapsed(JOB)
    assert journal.jobs() == ()
    assert (record := journal.consent(JOB)) is not None
    assert (record.granted, record.reasons) == (False, ("put out",))
    assert [(each.job, each.round, each.state_digest) for each in held.positions()] == [(JOB, 7, b"s" * 32)]
    journal.answer(consent(BACK.roll), b"manifest")
    assert (held.why(JOB), held.lapsed(JOB), held.positions()) == ("", False, [])
    assert [each.job for each in journal.jobs()] == [JOB]
    assert journal.records(JOB) == before


def test_a_lapsed_job_that_ends_is_forgotten_and_opened_by_no_consent_again(journal: Journal) -> None:
    journal.answer(consent(ATLAS.roll), b"manifest")
    journal.remember(JOB, {HELD: codec.encode(Held(7, b"s" * 32), Held)})
    journal.lapse(JOB, "put out")
    journal.end_job(JOB, "failed", "too few members")
    assert journal.records(JOB) == {}
    journal.answer(consent(BACK.roll), b"manifest")
    assert journal.jobs() == ()
    assert lapses(journal, BACK).positions() == []
