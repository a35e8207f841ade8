"""A running node and a coordinator that may say anything: what it agreed to is on its own disk, and nothing else is begun."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from federation.errors import InvalidIdentity, NotFound, Unavailable
from federation.identity.consent import open_consent, seal_consent
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.transport import Principal, TransportKey, principal_of
from federation.identity.withdrawal import seal_withdrawal
from federation.manifest.manifest import Manifest
from federation.v1 import rounds_pb2
from node_agent import certificate, service
from node_agent.agent import NodeAgent
from node_agent.rounds import training
from node_agent.settings import Home, PrivacyBudget
from node_agent.store.journal import ConsentRecord, Journal
from tests.unit.agent import homes
from tests.unit.agent.hall import Bench, PlainWorker
from tests.unit.agent.homes import DAY, OWN, Site, federation_of, issuing, job_of, joined_by_hand, manifest_of
from tests.unit.agent.killed import tree
from tests.unit.identity.parties import prepared

POLICY = """
apiVersion: concord/v1
kind: NodePolicy
rules:
  {leads: [lead], jurisdictions: [CH, KE], dataSets: [digits], minimumCohort: 3,
   figures: [train_loss, loss, eval_loss, eval_acc, accuracy]}
sandbox: optional
"""
NOTHING = "apiVersion: concord/v1\nkind: NodePolicy\nrules: {}\nsandbox: optional\n"


class Node:
    """A node that has joined; what it says to the coordinator is a list."""

    def __init__(self, path: Path, policy: str = POLICY) -> None:
        self.site = Site(path)
        (path / "rows").mkdir()
        joined_by_hand(self.site, policy, path / "rows")
        self.home, self.parties = self.site.home, self.site.parties
        self.said: list[rounds_pb2.NodeEvent] = []
        self.fetched: list[bytes] = []
        self.worker = PlainWorker()

    @contextmanager
    def running(self) -> Iterator[NodeAgent]:
        with Journal(self.home.journal) as journal:
            agent = NodeAgent(self.home, self.home.settings(), journal)
            agent.link.send = self.said.append  # type: ignore[method-assign]
            agent.link.get_blob = self._get_blob  # type: ignore[method-assign]
            agent.jobs.spec = lambda *_: self.worker  # type: ignore[assignment, method-assign]
            yield agent

    async def _get_blob(self, digest: bytes, path: Path, limit: int) -> None:
        self.fetched.append(digest)
        bundle, _ = prepared()
        assert digest == bundle.digest
        path.write_bytes(bundle.data)

    def play(self, *instructions: rounds_pb2.Instruction, then: Callable[[NodeAgent], Any] | None = None) -> Any:
        """A process of this node that hears these, in order, and then stops; ``then`` looks at it while it runs."""

        async def story(agent: NodeAgent) -> Any:
            for instruction in instructions:
                agent._hear(rounds_pb2.Instruction.FromString(instruction.SerializeToString()))
                await quiet(agent)
            found = then(agent) if then is not None else None
            if asyncio.iscoroutine(found):
                found = await found
            for driver in list(agent.jobs.values()):
                await driver.stop()
            return found

        with self.running() as agent:
            return asyncio.run(story(agent))

    def restarted(self) -> tuple[bytes, ...]:
        """The jobs that a new process of this node works on."""

        async def story(agent: NodeAgent) -> tuple[bytes, ...]:
            stop = asyncio.Event()
            agent.link.run = stop.wait  # type: ignore[assignment, method-assign]
            running = asyncio.create_task(agent.run(stop))
            for _ in range(1000):
                await asyncio.sleep(0)
                if agent.own.tasks.running:
                    break
            jobs = tuple(agent.jobs)
            stop.set()
            await running
            return jobs

        with self.running() as agent:
            return asyncio.run(story(agent))

    def answers(self) -> list[Any]:
        return [getattr(event, event.WhichOneof("event")) for event in self.said]

    def consents(self) -> tuple[ConsentRecord, ...]:
        with Journal(self.home.journal, read_only=True) as journal:
            return journal.consents()

    def jobs(self) -> dict[str, Any]:
        return tree(self.home.jobs)


async def quiet(agent: NodeAgent) -> None:
    while agent.own.tasks.running:
        await asyncio.gather(*list(agent.own.tasks.running), return_exceptions=True)


def asking(manifest: Manifest, envelope: bytes | None = None, job: bytes | None = None) -> rounds_pb2.Instruction:
    ask = rounds_pb2.AskConsent(manifest=manifest.envelope if envelope is None else envelope)
    return rounds_pb2.Instruction(job=manifest.digest if job is None else job, ask_consent=ask)


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def nothing_begun(node: Node) -> None:
    assert node.worker.calls == []
    assert node.worker.starts == 0
    assert node.fetched == []
    assert node.jobs() == {}
    assert node.restarted() == ()


# ------------------------------------------------------------------------------------------------------------------- answers


def test_a_job_that_the_policy_allows_is_agreed_to_signed_and_kept_before_it_is_said(node: Node) -> None:
    manifest = manifest_of(node.parties)
    order = []

    def look(event: rounds_pb2.NodeEvent) -> None:
        order.append([record.granted for record in node.consents()])
        node.said.append(event)

    with node.running() as agent:
        agent.link.send = look  # type: ignore[method-assign]

        async def story() -> None:
            agent._hear(asking(manifest))
            while not node.said:
                await asyncio.sleep(0.001)
            for driver in list(agent.jobs.values()):
                await driver.stop()

        asyncio.run(story())
        credential = agent.credential
    assert order[0] == [True]
    consent = open_consent(node.answers()[0].envelope, credential)
    assert consent.granted
    assert (consent.job, consent.weight, consent.data_set) == (manifest.digest, 512, "digits")
    assert node.consents()[0].envelope == node.answers()[0].envelope
    assert node.restarted() == (manifest.digest,)
    assert "task.log" not in node.jobs()


def test_a_new_home_denies_says_why_and_begins_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, NOTHING)
    manifest = manifest_of(node.parties)
    credential = node.play(asking(manifest), then=lambda agent: agent.credential)
    consent = open_consent(node.answers()[0].envelope, credential)
    assert not consent.granted
    assert [reason.split(":")[0] for reason in consent.reasons] == [
        "rules.leads",
        "rules.jurisdictions",
        "rules.dataSets",
        "rules.minimumCohort",
    ]
    assert not node.consents()[0].granted
    nothing_begun(node)


def test_the_policy_is_read_anew_for_each_answer_and_a_grant_stays(node: Node) -> None:
    manifest = manifest_of(node.parties)
    node.home.policy_file.write_text(NOTHING)
    node.play(asking(manifest))
    node.home.policy_file.write_text(POLICY)
    node.play(asking(manifest))
    node.home.policy_file.write_text(NOTHING)
    node.play(asking(manifest), asking(manifest))
    envelopes = [answer.envelope for answer in node.answers()]
    assert [consent.granted for consent in node.consents()] == [True]
    assert len(set(envelopes)) == 2
    assert envelopes[1] == envelopes[2] == envelopes[3] == node.consents()[0].envelope


def test_a_policy_that_cannot_be_read_agrees_to_nothing(node: Node, logged: list[Any]) -> None:
    manifest = manifest_of(node.parties)

    def broken(agent: NodeAgent) -> Any:
        async def story() -> None:
            for content in (b"rules: [", b"\xff\xfe", b""):
                node.home.policy_file.write_bytes(content)
                agent._hear(asking(manifest))
                await quiet(agent)
            node.home.policy_file.unlink()
            agent._hear(asking(manifest))
            await quiet(agent)

        return story()

    node.play(then=broken)
    assert node.consents() == ()
    assert [type(answer) for answer in node.answers()] == [rounds_pb2.Refusal] * 4
    assert str(node.home.root) not in "".join(str(answer) for answer in node.answers())
    assert "node.failed" not in [line["event"] for line in logged]
    assert node.fetched == []


def test_a_refusal_does_not_say_by_which_way_the_lab_speaks_nor_where_its_things_lie(
    node: Node, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    monkeypatch.setenv("https_proxy", "http://ana:pw@inner.lab:3128")
    settings = node.home.settings()
    node.home.save(settings.model_copy(update={"address": "coordinator.example:7443"}))
    data = settings.data_sets["digits"].path

    async def broken(*_: Any) -> None:
        raise Unavailable(
            f"The coordinator cannot be reached: {agent.link.route.place}.",
            hint=f"{data} is whole; see {agent.home.root}.",
        )

    with node.running() as agent:
        assert "inner.lab" in agent.link.route.place
        agent.link.get_blob = broken  # type: ignore[method-assign]

        async def story() -> None:
            agent._hear(asking(manifest_of(node.parties)))
            await quiet(agent)

        asyncio.run(story())
    text = node.answers()[0].text
    assert "The coordinator cannot be reached: coordinator.example:7443." in text
    for secret in ("inner.lab", data, str(node.home.root)):
        assert secret not in text
    assert "inner.lab" in next(line for line in logged if line["event"] == "consent.refused")["detail"]


# --------------------------------------------------------------------------------------------------------- jobs of other people


def foreign(node: Node) -> rounds_pb2.Instruction:
    """A lead of another federation, whose roll has the same names."""
    manifest = manifest_of(federation_of())
    return asking(manifest)


def by_no_lead(node: Node) -> rounds_pb2.Instruction:
    manifest = manifest_of(node.parties)
    return asking(manifest, job_of(node.parties, lead=SigningKey.generate()))


def another_job(node: Node) -> rounds_pb2.Instruction:
    return asking(manifest_of(node.parties), job=bytes(32))


def altered(node: Node) -> rounds_pb2.Instruction:
    manifest = manifest_of(node.parties)
    return asking(manifest, manifest.envelope.replace(b'"', b"'", 1))


def garbage(node: Node) -> rounds_pb2.Instruction:
    return asking(manifest_of(node.parties), b"\x00manifest")


def empty(node: Node) -> rounds_pb2.Instruction:
    return asking(manifest_of(node.parties), b"")


@pytest.mark.parametrize(
    "lie", [foreign, by_no_lead, another_job, altered, garbage, empty], ids=lambda lie: lie.__name__
)
def test_a_job_that_no_lead_of_the_roll_signed_is_refused_and_not_recorded(
    node: Node, lie: Callable[[Node], rounds_pb2.Instruction]
) -> None:
    node.play(lie(node))
    assert [type(answer) for answer in node.answers()] == [rounds_pb2.Refusal]
    assert node.answers()[0].text
    assert node.consents() == ()
    nothing_begun(node)


# ------------------------------------------------------------------------------------------------- what a coordinator may claim

WORK = [
    {"form": rounds_pb2.Form(epoch=1, formation=1)},
    {"announcement": rounds_pb2.Announcement()},
    {"close": rounds_pb2.Close()},
    {"catch_up": rounds_pb2.CatchUp()},
    {"provide_state": rounds_pb2.ProvideState()},
    {"finished": rounds_pb2.Finished()},
    {"job_failed": rounds_pb2.JobFailed()},
    {"withdrawn": rounds_pb2.Withdrawn()},
]


def test_work_on_a_job_that_was_never_agreed_to_is_not_even_answered(node: Node) -> None:
    manifest = manifest_of(node.parties)
    node.play(*(rounds_pb2.Instruction(job=manifest.digest, **each) for each in WORK))  # type: ignore[arg-type]
    assert node.said == []
    nothing_begun(node)


def test_a_coordinator_that_claims_consent_gets_nothing(tmp_path: Path) -> None:
    """It was denied, and goes on as if it had not been."""
    node = Node(tmp_path, NOTHING)
    manifest = manifest_of(node.parties)
    work = [rounds_pb2.Instruction(job=manifest.digest, **each) for each in WORK]  # type: ignore[arg-type]
    node.play(asking(manifest), *work)
    assert [type(answer) for answer in node.answers()] == [rounds_pb2.ConsentReply]
    nothing_begun(node)


def test_a_job_is_taken_up_from_the_lab_s_own_disk_alone(node: Node) -> None:
    manifest = manifest_of(node.parties)

    async def take_up(agent: NodeAgent) -> None:
        await agent.jobs.take_up(manifest, fetch=True)

    with pytest.raises(NotFound, match="no consent to this job on this node's disk"):
        node.play(then=take_up)
    nothing_begun(node)


def rewritten(node: Node, **changes: Any) -> None:
    """Somebody puts another consent in the place of the lab's own."""
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    key = changes.pop("key", None) or SigningKey.from_pem(node.home.identity_key.read_bytes())
    record = node.consents()[0]
    with Journal(node.home.journal) as journal:
        credential = NodeAgent(node.home, node.home.settings(), journal).credential
        said = dataclasses.replace(open_consent(record.envelope, credential), **changes)
        journal._database.execute("UPDATE consents SET envelope=?", (seal_consent(said, key),))


def test_a_consent_that_another_key_signed_is_not_resumed(node: Node, logged: list[Any]) -> None:
    rewritten(node, key=SigningKey.generate())
    assert node.restarted() == ()
    assert "job.not-resumed" in [line["event"] for line in logged]
    assert node.worker.calls == []


def test_a_job_whose_manifest_was_exchanged_is_not_resumed(node: Node, logged: list[Any]) -> None:
    node.play(asking(manifest_of(node.parties)))
    with Journal(node.home.journal) as journal:
        journal._database.execute("UPDATE jobs SET manifest=?", (job_of(federation_of()),))
    assert node.restarted() == ()
    assert "job.not-resumed" in [line["event"] for line in logged]


# ---------------------------------------------------------------------------------------------------------------- ends of jobs


def test_a_job_ends_when_its_own_lead_withdraws_it_and_not_before(node: Node, logged: list[Any]) -> None:
    manifest = manifest_of(node.parties)
    lead, other = node.parties.lead_key, SigningKey.generate()

    def withdrawn(envelope: bytes) -> rounds_pb2.Instruction:
        return rounds_pb2.Instruction(job=manifest.digest, withdrawn=rounds_pb2.Withdrawn(withdrawal=envelope))

    lies = [
        b"",
        b"{}",
        seal_withdrawal(manifest.digest, "stop", other),
        seal_withdrawal(bytes(32), "stop", lead),
    ]
    alive = node.play(asking(manifest), *map(withdrawn, lies), then=lambda agent: tuple(agent.jobs))
    assert alive == (manifest.digest,)
    node.play(asking(manifest))
    assert node.restarted() == (manifest.digest,)

    async def taken_up(agent: NodeAgent) -> None:
        await agent.jobs.take_up(manifest, fetch=False)
        agent._hear(withdrawn(seal_withdrawal(manifest.digest, "enough", lead)))
        await quiet(agent)
        assert agent.jobs == {}

    node.play(then=taken_up)
    with Journal(node.home.journal) as journal:
        job = journal.job(manifest.digest)
        assert job is not None
        assert (job.state, job.reason) == ("withdrawn", "enough")
        assert journal.records(manifest.digest) == {}
    assert node.jobs() == {}
    assert node.restarted() == ()


# ----------------------------------------------------------------------------------------------------------------- certificates


def renewing(node: Node, answer: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the transport certificate is after each of two tries to renew one that ends soon."""
    found: list[bytes] = []

    async def renew(_route: Any, _credentials: Any, csr: bytes, _took: Any) -> bytes:
        if len(found) == 2:
            raise asyncio.CancelledError
        found.append(b"")
        return answer(csr)

    async def at_once(_seconds: float) -> None:
        if found:
            found[-1] = node.home.transport_certificate.read_bytes()

    monkeypatch.setattr(certificate, "renew", renew)
    with node.running() as agent:
        monkeypatch.setattr(certificate.asyncio, "sleep", at_once)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(agent.certificate.keep_fresh(agent.link))
        monkeypatch.undo()
    return found


def test_the_ends_of_a_node_s_papers_are_in_its_metrics(node: Node) -> None:
    """The transport certificate's anew at each scrape; that of the metrics' own address as it was read at the start."""

    def ends(agent: NodeAgent) -> dict[str, float]:
        (family,) = (
            each for each in agent.metrics.registry.collect()
            if each.name == "concord_node_certificate_expiry_timestamp_seconds"
        )  # fmt: skip
        return {sample.labels["certificate"]: sample.value for sample in family.samples}

    transport = x509.load_pem_x509_certificate(node.home.transport_certificate.read_bytes()).not_valid_after_utc
    with node.running() as agent:
        assert ends(agent) == {
            "transport": transport.timestamp(),
            "credential": agent.credential.not_after.timestamp(),
        }
    (node.home.root / "web.pem").write_bytes(node.home.transport_certificate.read_bytes())
    names = {"metrics_certificate": "web.pem", "metrics_key": "web.key"}
    node.home.save(node.home.settings().model_copy(update=names))
    with node.running() as agent:
        assert ends(agent)["metrics"] == transport.timestamp()
        public = TransportKey.generate().private.public_key()
        fresh = node.site.authority.issue_for(public, OWN, datetime.now(UTC), 2 * DAY)
        node.home.transport_certificate.write_bytes(fresh)
        assert ends(agent)["transport"] == x509.load_pem_x509_certificate(fresh).not_valid_after_utc.timestamp()


def test_a_certificate_is_renewed_in_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    before = node.home.transport_certificate.read_bytes()
    issue = issuing(node.site.authority)
    found = renewing(node, lambda csr: issue(csr, OWN), monkeypatch)
    assert before not in found
    assert len(set(found)) == 2
    for each in found:
        assert principal_of(each).node == "fr-1"


def to_another_key(node: Node) -> Callable[[bytes], bytes]:
    public = TransportKey.generate().private.public_key()
    return lambda _csr: node.site.authority.issue_for(public, OWN, datetime.now(UTC), DAY)


def to_another_node(node: Node) -> Callable[[bytes], bytes]:
    issue = issuing(node.site.authority, Principal("node", "ke", "ke-1"))
    return lambda csr: issue(csr, OWN)


def no_certificate(_node: Node) -> Callable[[bytes], bytes]:
    return lambda _csr: b"garbage"


@pytest.mark.parametrize("lie", [to_another_key, to_another_node, no_certificate], ids=lambda lie: lie.__name__)
def test_a_renewed_certificate_that_does_not_fit_never_replaces_a_good_one(
    node: Node, lie: Callable[[Node], Callable[[bytes], bytes]], monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    before = node.home.transport_certificate.read_bytes()
    assert renewing(node, lie(node), monkeypatch) == [before, before]
    assert node.home.transport_certificate.read_bytes() == before
    assert "certificate.not-renewed" in [line["event"] for line in logged]


def test_a_certificate_that_ended_is_said_before_anything_is_dialled(node: Node) -> None:
    key = TransportKey.from_pem(node.home.transport_key.read_bytes())
    then = datetime.now(UTC) - 2 * DAY
    ended = node.site.authority.issue_for(key.private.public_key(), OWN, then, DAY)
    node.home.transport_certificate.write_bytes(ended)
    with pytest.raises(InvalidIdentity, match="transport certificate ended on") as said:
        node.play(then=lambda agent: agent.certificate.credentials())
    assert "concord-node join" in said.value.hint


# --------------------------------------------------------------------------------------------------------------------- starting


def test_a_killed_nodes_run_file_does_not_say_that_its_successor_is_connected(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe of a pod without metrics asks for that file alone."""
    there: list[bool] = []

    async def starts(home: Home, *_: object) -> None:
        there.append(home.run_file.exists())

    monkeypatch.setattr(service, "_serve", starts)
    monkeypatch.setattr(service, "speak", lambda *_: None)
    node.home.run_file.write_text('{"pid": 1, "address": "127.0.0.1:1", "metrics": ""}')
    service.serve(node.home)
    assert there == [False]


def test_a_home_does_not_start_twice_or_with_an_open_key(node: Node) -> None:
    with Journal(node.home.journal), pytest.raises(Unavailable, match="in use by another process"):
        service.serve(node.home)
    with service.locked(node.home), pytest.raises(Exception, match="Another node runs on"):
        service.serve(node.home)
    for key in (node.home.identity_key, node.home.transport_key):
        key.chmod(0o640)
        with pytest.raises(Exception, match="can be read by others") as said:
            service.serve(node.home)
        assert f"chmod 600 {key}" in said.value.hint  # type: ignore[attr-defined]
        key.chmod(0o600)


def test_a_credential_that_ended_does_not_start(node: Node) -> None:
    node.site.request.exists()
    node.home.credential.write_bytes(node.site.credential(ends=timedelta(days=-1)).read_bytes())
    with pytest.raises(InvalidIdentity, match="not now") as said, node.running():
        raise AssertionError("it started")
    assert "sign a fresh one" in said.value.hint
    assert moment_text(datetime.now(UTC))[:4] in said.value.message


# ----------------------------------------------------------------------------------------------------- privacy budgets


@pytest.mark.parametrize("together", [True, False])
def test_two_jobs_that_fit_alone_and_not_together_are_not_both_agreed_to(node: Node, together: bool) -> None:
    """Asked at the same moment, or one after the other: what the first reserves the second has not."""
    settings = node.home.settings()
    name = next(iter(settings.data_sets))
    budget = PrivacyBudget(epsilon=4.5, delta=1e-6, unit="member")
    sets = {name: settings.data_sets[name].model_copy(update={"privacy_budget": budget})}
    node.home.save(settings.model_copy(update={"data_sets": sets}))
    private = homes.JOB + "  privacy: {unit: member, epsilon: 4, delta: 1e-6}\n  secureAggregation: {clipNorm: 4}\n"
    asked = [asking(manifest_of(node.parties, private + f"  priority: {place}\n")) for place in range(2)]
    if together:

        def both(agent: NodeAgent) -> Any:
            async def story() -> None:
                for each in asked:
                    agent._hear(each)
                await quiet(agent)

            return story()

        node.play(then=both)
    else:
        node.play(*asked)
    assert sorted(consent.granted for consent in node.consents()) == [False, True]
    (denied,) = (consent for consent in node.consents() if not consent.granted)
    assert denied.reasons[0].startswith("budget: The privacy budget of data set")
    assert denied.job.hex() not in {path.split("/")[0] for path in node.jobs()}
