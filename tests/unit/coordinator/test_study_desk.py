"""The coordinator's desk for studies: it asks whom the study invites, keeps signed answers, logs them, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.sessions import Session, Sessions
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database, NodeRow
from coordinator.studies.desk import StudyDesk
from federation.errors import InvalidIdentity, InvalidManifest, PolicyDenied
from federation.identity.consent import BY_RULE, Consent, seal_consent
from federation.identity.credential import node_request
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.revocation import Revocation, consent_digest, seal_revocation
from federation.identity.transport import Principal
from federation.manifest.study import Study, open_study
from federation.v1 import rounds_pb2
from tests.unit.agent.homes import credential_of, federation_of
from tests.unit.identity.parties import prepared
from tests.unit.manifest.studied import now, run_of, sealed_study

LEAD = Principal("lead", name="lead")


def clock() -> float:
    return datetime.now(UTC).timestamp()


class Office:
    """A desk on its disk, with three nodes that are connected."""

    def __init__(self, folder: Path) -> None:
        self.parties = federation_of()
        self.database, self.sessions = Database(folder / "coordinator.db"), Sessions()
        self.keys = {name: SigningKey.generate() for name in ("ch", "fr", "ke")}
        blobs = Blobs(folder / "blobs")
        blobs.put(prepared()[0].data)
        self.blobs = blobs
        for name, key in self.keys.items():
            credential = credential_of(self.parties, node_request("health", name, f"{name}-1", key), name)
            with self.database.transaction() as change:
                change.put_node(NodeRow(name, f"{name}-1", credential, "active", 0.0))
            self.sessions.add(Session(name, f"{name}-1", rounds_pb2.Offer()))
        self.start()

    def start(self) -> None:
        registry = Registry(self.database, Authority.create("health", datetime.now(UTC)), timedelta(hours=24), clock)
        registry.found(self.parties.roll.envelope)
        self.desk = StudyDesk(self.database, self.sessions, registry, self.blobs, clock)

    def session(self, name: str) -> Session:
        session = self.sessions.get(name, f"{name}-1")
        assert session is not None
        return session

    def heard(self, name: str) -> list[rounds_pb2.Instruction]:
        queue, found = self.session(name).queue, []
        while not queue.empty():
            found.append(rounds_pb2.Instruction.FromString(queue.get_nowait() or b""))
        return found

    def submit(self, envelope: bytes, caller: Principal = LEAD) -> bool:
        digest, created = self.desk.submit(caller, envelope)
        assert digest == open_study(envelope, self.parties.roll).digest
        return created

    def consent(self, study: Study, name: str, **changes: Any) -> bytes:
        at = now()
        said = Consent(
            study.digest, name, f"{name}-1", False, ("no",), "digits", 0, (), (), at, at + timedelta(days=1),
            binds=None, given=BY_RULE,
        )  # fmt: skip
        return seal_consent(replace(said, **changes), self.keys[name])

    def says(self, study: Study, name: str, proto: Any) -> bool:
        field = {"ConsentReply": "consent", "ConsentRevocation": "consent_revocation", "Refusal": "refusal"}
        event = rounds_pb2.NodeEvent(job=study.digest, **{field[type(proto).__name__]: proto})
        return self.desk.hears(self.session(name), event)

    def states(self) -> dict[str, str]:
        ((_study, _row, answers),) = self.desk.rows()
        return {each.member: each.state for each in answers}

    def logged(self, kind: str) -> int:
        with self.database.transaction() as change:
            import sqlalchemy as sa

            rows = change._connection.execute(sa.text("SELECT kind FROM audit_entries")).scalars().all()
        return list(rows).count(kind)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_whom_a_study_invites_is_asked_once_and_again_when_it_returns_unanswered(office: Office) -> None:
    envelope = sealed_study(office.parties, spec={"participants": {"members": ["ch", "fr", "ke"]}})
    study = open_study(envelope, office.parties.roll)
    assert office.submit(envelope)
    assert not office.submit(envelope)
    for name in ("ch", "fr", "ke"):
        (asked,) = office.heard(name)
        assert (asked.job, asked.ask_consent.study, asked.ask_consent.manifest) == (study.digest, envelope, b"")
    denial = office.consent(study, "fr")
    assert office.says(study, "fr", rounds_pb2.ConsentReply(envelope=denial))
    office.start()  # another process
    for name in ("ch", "fr"):
        office.desk.connected(office.session(name))
    assert len(office.heard("ch")) == 1
    assert office.heard("fr") == []
    assert office.states() == {"ch": "asked", "fr": "denied", "ke": "asked"}
    assert (office.logged("submission"), office.logged("consent")) == (1, 1)


def test_an_answer_is_a_nodes_own_and_what_was_taken_back_stays_so(office: Office) -> None:
    envelope = sealed_study(office.parties)
    study = open_study(envelope, office.parties.roll)
    office.submit(envelope)
    foreign = office.consent(study, "ke")
    assert office.says(study, "fr", rounds_pb2.ConsentReply(envelope=foreign)), "it is about a study, and refused"
    assert office.says(study, "fr", rounds_pb2.ConsentReply(waits_until="tomorrow"))
    assert office.states()["fr"] == "asked"
    assert office.says(study, "fr", rounds_pb2.Refusal(code="x", text="a \x1b[31m disk"))
    assert office.states()["fr"] == "refused"
    said = office.consent(study, "fr")
    office.says(study, "fr", rounds_pb2.ConsentReply(envelope=said))
    over = Revocation(study.digest, consent_digest(said), "fr", "fr-1", "person", "officer", now())
    taken = seal_revocation(over, office.keys["fr"])
    office.heard("fr")
    for _ in range(2):
        office.says(study, "fr", rounds_pb2.ConsentRevocation(envelope=taken))
    noted = office.heard("fr")
    assert [each.consent_noted.revocation for each in noted] == [consent_digest(taken)] * 2
    office.says(study, "fr", rounds_pb2.ConsentReply(envelope=said))
    assert office.states()["fr"] == "revoked"
    assert office.logged("revocation") == 1


def test_what_is_not_a_leads_own_or_has_no_code_is_not_taken(office: Office, tmp_path: Path) -> None:
    envelope = sealed_study(office.parties)
    with pytest.raises(PolicyDenied):
        office.submit(envelope, Principal("lead", name="other"))
    with pytest.raises(InvalidIdentity):
        office.desk.submit(LEAD, sealed_study(office.parties, key=SigningKey.generate()))
    office.blobs = Blobs(tmp_path / "empty")
    office.start()
    with pytest.raises(InvalidManifest, match="bundle that the study names was not uploaded"):
        office.submit(envelope)
    assert office.desk.rows() == ()
    assert office.logged("submission") == 0


def test_a_name_goes_on_until_its_study_ends(office: Office) -> None:
    at = now() - timedelta(days=2)
    ended = sealed_study(office.parties, created=at, expires=moment_text(at + timedelta(days=1)))
    office.submit(ended)
    office.submit(sealed_study(office.parties))
    with pytest.raises(InvalidManifest, match="goes on already"):
        office.submit(sealed_study(office.parties, runs=2))


def test_a_run_of_a_study_that_was_not_submitted_is_not_taken(office: Office) -> None:
    envelope = sealed_study(office.parties)
    study = open_study(envelope, office.parties.roll)
    run = run_of(office.parties, study)
    with pytest.raises(InvalidManifest, match="names a study that was not submitted"):
        office.desk.check_run(run)
    office.submit(envelope)
    office.desk.check_run(run)
    office.desk.check_run(run_of(office.parties, None))
    assert not office.desk.hears(
        office.session("fr"), rounds_pb2.NodeEvent(job=run.digest, consent=rounds_pb2.ConsentReply(waits_until="x"))
    )
