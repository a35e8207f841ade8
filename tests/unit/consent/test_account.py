"""Years later: what this lab answered, the verdict that the answer binds word for word, and who may erase it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from federation.errors import InvalidUsage, NotFound
from federation.identity.consent import MAX_ENVELOPE, read_consent, seal_consent
from federation.identity.envelope import open_envelope
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.v1 import rounds_pb2
from node_agent.consent.account import account_of, explain, forget, keep_for
from node_agent.consent.listing import print_consents
from node_agent.rounds import training
from node_agent.store.journal import Journal
from node_agent.store.verdicts import KeptVerdict
from tests.unit.agent.hall import Bench
from tests.unit.agent.homes import manifest_of
from tests.unit.agent.test_node_consents import NOTHING, POLICY, Node, asking

PACK = """\
apiVersion: concord/v1
kind: PolicyPack
metadata: {name: ke-computing, layer: national, serial: 4}
rules: {maxRounds: 100}
"""


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs():
        yield


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.home.packs.mkdir()
    (node.home.packs / "law.yaml").write_text(PACK)
    return node


def verdicts(node: Node, job: bytes) -> tuple[KeptVerdict, ...]:
    with Journal(node.home.journal, read_only=True) as journal:
        return journal.verdicts(job)


def failed(job: bytes) -> rounds_pb2.Instruction:
    return rounds_pb2.Instruction(job=job, job_failed=rounds_pb2.JobFailed(reason="x"))


def test_the_verdict_that_a_consent_binds_is_kept_word_for_word_and_names_the_packs(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    (kept,) = verdicts(node, manifest.digest)
    consent = read_consent(open_envelope(node.consents()[0].envelope, "consent", MAX_ENVELOPE))
    assert consent.binds is not None
    assert kept.digest == consent.binds.verdict
    document = json.loads(kept.document)
    assert [(pack["name"], pack["layer"], pack["serial"]) for pack in document["packs"]] == [
        ("policy.yaml", "own", 0),
        ("ke-computing", "national", 4),
    ]
    assert all(len(pack["digest"]) == 64 for pack in document["packs"])
    (node.home.packs / "law.yaml").unlink()  # what the rules are today plays no part
    node.home.policy_file.write_text(NOTHING)
    explain(node.home, manifest.name, out=tmp_path / "verdict.json")
    assert hashlib.sha256((tmp_path / "verdict.json").read_bytes()).digest() == consent.binds.verdict
    shown = capsys.readouterr().out
    assert "granted, by the lab's rules alone" in shown
    assert "its digest is the one that the answer binds" in shown
    assert "under     ke-computing (national, serial 4, " in shown
    assert f"roll       {node.parties.roll.digest.hex()}" in shown
    assert "allows    policy.yaml: lead lead is allowed" in shown
    explain(node.home, manifest.digest.hex()[:8], output="json")
    assert json.loads(capsys.readouterr().out)["verdicts"][0]["document"] == document
    print_consents(node.home)
    assert f"concord-node explain {manifest.digest.hex()[:12]}" in capsys.readouterr().out


def test_a_denial_keeps_its_verdict_and_one_that_is_asked_anew_the_newer(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of(node.parties)
    node.home.policy_file.write_text(NOTHING)
    node.play(asking(manifest))
    (kept,) = verdicts(node, manifest.digest)
    assert json.loads(kept.document)["outcome"] == "denied"
    explain(node.home, manifest.name)
    assert "denies    policy.yaml: the policy names none" in capsys.readouterr().out
    node.home.policy_file.write_text(POLICY)
    node.play(asking(manifest))
    (kept,) = verdicts(node, manifest.digest)
    assert json.loads(kept.document)["outcome"] == "granted"
    node.home.policy_file.write_text(NOTHING)
    node.play(asking(manifest))
    assert verdicts(node, manifest.digest) == (kept,), "the consent stands, and so does what it was given by"


def test_another_verdict_than_the_bound_one_is_not_shown_for_it(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody at the lab has written another document into the journal: the signed digest tells."""
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    (kept,) = verdicts(node, manifest.digest)
    other = kept.document.replace(b"lead lead is allowed", b"anybody is allowed")
    with closing(sqlite3.connect(node.home.journal)) as database, database:
        database.execute("UPDATE verdicts SET document=?, digest=?", (other, hashlib.sha256(other).digest()))
    explain(node.home, manifest.name)
    shown = capsys.readouterr().out
    assert "ANOTHER VERDICT" in shown
    assert "anybody is allowed" not in shown
    assert account_of(node.home, manifest.name).bound is None


def test_an_answer_that_this_node_did_not_sign_is_not_believed(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    with closing(sqlite3.connect(node.home.journal)) as database, database:
        consent = read_consent(open_envelope(node.consents()[0].envelope, "consent", MAX_ENVELOPE))
        database.execute("UPDATE consents SET envelope=?", (seal_consent(consent, SigningKey.generate()),))
    explain(node.home, manifest.name)
    assert "not signed by this node" in capsys.readouterr().out


def test_verdicts_are_erased_by_forget_alone_and_not_while_the_job_runs(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    with pytest.raises(InvalidUsage, match="still takes part"):
        forget(node.home, manifest.name)
    assert len(verdicts(node, manifest.digest)) == 1
    node.play(then=lambda agent: agent.journal.end_job(manifest.digest, "finished"))
    assert len(verdicts(node, manifest.digest)) == 1, "the end of a job erases none"
    assert "1 verdicts are erased" in forget(node.home, manifest.name)
    assert verdicts(node, manifest.digest) == ()
    explain(node.home, manifest.name)
    assert "no verdict: it was forgotten" in capsys.readouterr().out
    with pytest.raises(NotFound, match="is not kept here"):
        explain(node.home, manifest.name, out=tmp_path / "gone.json")
    assert not (tmp_path / "gone.json").exists()
    with pytest.raises(NotFound, match="answered nothing like"):
        explain(node.home, "nothing")


@pytest.mark.parametrize(
    ("days", "state", "left"), [(30, "finished", 0), (30, "active", 1), (60, "finished", 1), (None, "finished", 1)]
)
def test_the_labs_own_time_for_keeping_them_ends_no_sooner_than_the_job(
    node: Node, days: int | None, state: str, left: int
) -> None:
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    later = datetime.now(UTC) + timedelta(days=45)

    def keeps(agent: Any) -> None:
        if state != "active":
            agent.journal.end_job(manifest.digest, state)
        keep_for(agent.journal, days, later)

    node.play(then=keeps)
    assert len(verdicts(node, manifest.digest)) == left


def test_the_answer_and_its_verdict_are_on_disk_together_or_not_at_all(node: Node) -> None:
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    with Journal(node.home.journal) as journal:
        record = journal.consents()[0]
        kept = KeptVerdict(manifest.digest, "nothing", moment_text(datetime.now(UTC)), b"{}")  # type: ignore[arg-type]
        fresh = bytes(31) + b"\1"
        with pytest.raises(sqlite3.IntegrityError):
            journal.answer(
                type(record)(fresh, "new", "lead", True, (), b"", record.answered),
                b"",
                None,
                KeptVerdict(fresh, kept.occasion, kept.made, kept.document),
            )
        assert journal.consent(fresh) is None
        assert journal.job(fresh) is None
