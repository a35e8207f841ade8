"""The registry of releases: to whom it shows and serves what, and that nobody gets what was recalled."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.releases.desk import ReleaseDesk
from coordinator.store.database import Database
from coordinator.store.releases import ReleaseRow
from federation.errors import NotFound, PolicyDenied
from federation.governance.charter import Audience, Charter
from federation.identity.roll import Roll
from federation.identity.transport import Principal
from federation.releases.listing import MODEL
from tests.unit.releases.released import JOB, Training, trained

NODE_IN, NODE_OUT = Principal("node", member="m1", node="node"), Principal("node", member="m9", node="node")
LEAD, OFFICER = Principal("lead", name="lead"), Principal("officer", name="m2")
OPERATOR = Principal("operator", name="op")
MODEL_DIGEST = b"\7" * 32


class Publisher:
    """Its files are a list; making them is another test's."""

    def listed(self, _listing: str) -> list[tuple[str, bytes, int]]:
        return [(MODEL, MODEL_DIGEST, 1), ("README.md", b"\1" * 32, 1)]

    def files(self, job: Any) -> list[tuple[str, bytes, int]]:
        if not job.release:
            raise NotFound("The job has no release.")
        return self.listed(job.release)


def desk(folder: Path, charter: Audience = "members", job: Audience | None = None) -> tuple[ReleaseDesk, Training]:
    text = (
        JOB
        if job is None
        else JOB.replace("  coordinatorView: sum", f"  coordinatorView: sum\n  release: {{audience: {job}}}")
    )
    world = trained(text=text, charter=replace(Charter.standard(), audience=charter))
    database = Database(folder / "coordinator.db")
    digest = world.job.digest.hex()
    with database.transaction() as change:
        change.add_job(digest, "digits", world.job.envelope, 1.0)
        change.update_job(digest, state="finished", release="ab" * 32)
        change.place(digest, [("m1", "node"), ("m2", "node")])
        change.releases.put(ReleaseRow(digest, world.subject, "published"))
    registry: Any = SimpleNamespace(roll=lambda: world.parties.roll, clock=lambda: 2.0, database=database)
    made = ReleaseDesk(database, registry, Publisher())  # type: ignore[arg-type]
    made.resume()
    return made, world


def job_of(held: ReleaseDesk, world: Training) -> Any:
    with held.database.transaction() as change:
        return change.job(world.job.digest.hex())


def served(held: ReleaseDesk, world: Training, caller: Principal) -> bool:
    """By name and by digest alike."""
    job, said = job_of(held, world), []
    for ask in (lambda: held.files(caller, job), lambda: held.check_blob(caller, MODEL_DIGEST)):
        try:
            ask()
        except PolicyDenied:
            said.append(False)
        else:
            said.append(True)
    assert said[0] == said[1] == held.shown(caller, job)
    return said[0]


@pytest.mark.parametrize(
    ("charter", "job", "allowed"),
    [
        ("members", None, {"taking part", "member", "lead"}),
        ("participants", None, {"taking part", "lead"}),
        ("public", None, {"taking part", "member", "lead", "operator"}),
        ("public", "participants", {"taking part", "lead"}),
        ("participants", "public", {"taking part", "lead"}),
    ],
)
def test_whom_charter_and_job_allow_the_stricter_of_both(
    charter: Audience, job: Audience | None, allowed: set[str], tmp_path: Path
) -> None:
    held, world = desk(tmp_path, charter, job)
    callers = {
        "taking part": Principal("officer", name="m2"),
        "member": Principal("officer", name="m3"),
        "lead": LEAD,
        "operator": OPERATOR,
    }
    assert {name for name, caller in callers.items() if served(held, world, caller)} == allowed


def test_what_members_have_recalled_is_served_to_nobody(tmp_path: Path) -> None:
    held, world = desk(tmp_path, "public")
    for caller in (NODE_IN, LEAD, OFFICER, OPERATOR):
        assert served(held, world, caller)
    decision = world.decided("m3", action="recall")
    question: Any = SimpleNamespace(proposal=_proposal_of(decision, world.parties.roll), votes=_votes_of(decision))
    held.heard(question)
    for caller in (NODE_IN, LEAD, OFFICER, OPERATOR):
        with pytest.raises(PolicyDenied, match="was recalled by the members"):
            held.files(caller, job_of(held, world))
        with pytest.raises(PolicyDenied, match="was recalled by the members"):
            held.check_blob(caller, MODEL_DIGEST)
    assert held.row(world.job.digest.hex()).state == "recalled"  # type: ignore[union-attr]


def test_a_recall_without_its_quorum_changes_nothing(tmp_path: Path) -> None:
    held, world = desk(tmp_path)
    decision = world.decided(action="recall")
    question: Any = SimpleNamespace(proposal=_proposal_of(decision, world.parties.roll), votes=_votes_of(decision))
    with pytest.raises(Exception, match="lacks its quorum for recall"):
        held.heard(question)
    assert served(held, world, LEAD)


def test_files_that_are_no_releases_are_not_its_business(tmp_path: Path) -> None:
    held, _world = desk(tmp_path, "participants")
    held.check_blob(NODE_OUT, bytes(32))


def test_the_evidence_of_a_proposed_release_is_for_those_who_vote(tmp_path: Path) -> None:
    held, world = desk(tmp_path, "participants")
    digest = world.job.digest.hex()
    with held.database.transaction() as change:
        change.update_job(digest, release="")
        change.releases.put(ReleaseRow(digest, world.subject, "proposed", "cd" * 32))
    assert held.files(Principal("officer", name="m3"), job_of(held, world))
    with pytest.raises(PolicyDenied, match="for the members who vote"):
        held.files(OPERATOR, job_of(held, world))


def _proposal_of(decision: bytes, roll: Roll) -> Any:
    from federation.governance.ballot import read_decision
    from federation.governance.proposal import open_proposal

    return open_proposal(read_decision(decision)[0], roll)


def _votes_of(decision: bytes) -> tuple[bytes, ...]:
    from federation.governance.ballot import read_decision

    return read_decision(decision)[1]
