"""Heads, cosignatures, proofs and parts, as the coordinator gives them: each checked by the shared law, and over HTTP."""

import hashlib
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from coordinator.api.sessions import Session
from coordinator.audit.book import LogBook
from coordinator.audit.keys import log_signer, make_log_key
from coordinator.settings import Home, write_private
from coordinator.store.database import Database, NodeRow
from coordinator.store.log import HEADS_KEPT
from coordinator.web.server import WebServer
from federation.audit.checkpoint import cosign, cosigned_by, log_key, open_head, witness_key
from federation.audit.history import follow
from federation.audit.proof import verify_inclusion
from federation.audit.verify import verify_log
from federation.errors import FederationError, InvalidUsage, NotFound, ProtocolViolation
from federation.identity.credential import node_request, sign_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollMember, draft_roll

JOB = "ab" * 32
FEDERATION = "atlas"
MEMBERS = ("br", "ke", "in")


class Hall:
    """A log book over a real database, with a clock that the test moves."""

    def __init__(self, folder):
        self.now = 1_800_000_000.0
        self.database = Database(folder / "coordinator.db")
        self.officers = {name: SigningKey.generate() for name in MEMBERS}
        draft = draft_roll(
            FEDERATION, 1, [RollMember(name, name, "FR", key.public) for name, key in self.officers.items()], []
        )
        self.roll = Roll.open(seal(draft, "roll", list(self.officers.values())))
        self.nodes = {name: SigningKey.generate() for name in MEMBERS}
        start = datetime.fromtimestamp(self.now, UTC)
        with self.database.transaction() as change:
            change.set_roll(self.roll.envelope)
            for name, key in self.nodes.items():
                request = node_request(FEDERATION, name, f"{name}-1", key)
                credential = sign_credential(
                    request, FEDERATION, self.officers[name], name, start - timedelta(1), start + timedelta(1)
                )
                change.put_node(NodeRow(name, f"{name}-1", credential, "enrolled", 0))
        self.signing = SigningKey.generate()
        self.book = self.reopened()

    def reopened(self, stands=5.0):
        return LogBook(self.database, FEDERATION, self.signing, self.read_roll, lambda: self.now, stands)

    def read_roll(self):
        """As the registry does: in a transaction of its own."""
        with self.database.transaction() as change:
            return Roll.open(change.roll())

    def grow(self, count):
        with self.database.transaction() as change:
            size = change.log.frontier().size
            for number in range(size, size + count):
                change.audit(self.now, "roster", f"{JOB} {number}", b"%d" % number)

    def cosign(self, name, head, key=None):
        opened = open_head(head.note, self.book.key)
        witness = witness_key(FEDERATION, name, f"{name}-1", self.nodes[name].public)
        line = cosign(opened.checkpoint, witness.name, key or self.nodes[name], int(self.now))
        self.book.cosigned(Session(name, f"{name}-1", None), head.size, line)

    def keys(self):
        return [witness_key(FEDERATION, name, f"{name}-1", key.public) for name, key in self.nodes.items()]

    def fetch(self, path, limit):
        data = self.book.note() if path == "checkpoint" else self.book.part(path)
        assert len(data) <= limit
        return data


@pytest.fixture
def hall(tmp_path):
    made = Hall(tmp_path)
    yield made
    made.database.close()


def test_a_witness_can_follow_it(hall):
    held = None
    for count in (0, 1, 3, 250, 300):
        hall.grow(count)
        hall.now += 6
        shown, _ = hall.book.head_since(0 if held is None else held.size)
        head = open_head(shown.note, hall.book.key)
        assert follow(hall.book.key, held, head, shown.path) is None
        held = head
    assert held.size == 554
    found = verify_log(hall.fetch, hall.book.key)
    assert found.head.size == 554


def test_a_head_stands_for_some_seconds_and_is_alike_after_a_restart(hall):
    hall.grow(3)
    first = hall.book.head()
    hall.grow(3)
    assert hall.book.head() == first
    hall.now += 5
    second = hall.book.head()
    assert second.size == 6
    hall.now += 500
    assert hall.book.head() == second  # nothing was added
    assert hall.reopened().head() == second  # byte for byte, though signed at another time


def test_cosignatures_are_the_nodes_own(hall):
    hall.grow(5)
    head = hall.book.head()
    hall.cosign("br", head)
    for name, key in (("ke", hall.nodes["br"]), ("in", SigningKey.generate())):
        with pytest.raises(ProtocolViolation):
            hall.cosign(name, head, key)
    with pytest.raises(ProtocolViolation):
        hall.book.cosigned(Session("br", "br-1", None), head.size, b"x" * 100_000)
    hall.book.cosigned(Session("zz", "zz-1", None), head.size, b"")  # of no node: nothing happens
    assert set(cosigned_by(hall.book.note(), hall.keys())) == {"concord/atlas/br/br-1"}
    hall.grow(5)
    hall.now += 6
    shown, seen = hall.book.head_since(5)
    assert [open_head(other.note, hall.book.key).size for other in seen] == [5]
    assert set(cosigned_by(seen[0].note, hall.keys())) == {"concord/atlas/br/br-1"}
    older, newer = open_head(seen[0].note, hall.book.key), open_head(shown.note, hall.book.key)
    assert follow(hall.book.key, older, newer, seen[0].path) is None


def test_proofs_lead_to_a_cosigned_head_where_there_is_one(hall):
    hall.grow(300)
    with hall.database.transaction() as change:
        change.audit(hall.now, "submission", JOB, b"the manifest")
        digest = hashlib.sha256(b"the manifest").digest()
    proof = hall.book.inclusion(digest)
    assert verify_inclusion(proof, hall.book.key).entry.kind == "submission"
    cosigned = hall.book.head()
    hall.cosign("br", cosigned)
    hall.grow(50)
    hall.now += 6
    hall.book.head()
    proof = hall.book.prove(digest, 0, 0)
    proved = verify_inclusion(proof, hall.book.key, hall.keys())
    assert proved.head.size == cosigned.size == 301
    assert set(proved.witnesses) == {"concord/atlas/br/br-1"}
    assert verify_inclusion(hall.book.prove(b"", 340, 0), hall.book.key).entry.fields["epoch"] == "340"
    exact = hall.book.prove(digest, 0, 350)
    assert exact.size == 350
    for document, number, size in (
        (bytes(32), 0, 0),
        (b"", 351, 0),
        (b"", 351, 351),
        (digest, 0, 352),
        (digest, 0, 300),
    ):
        with pytest.raises(NotFound):
            hall.book.prove(document, number, size)


def test_documents_by_digest_but_no_evidence(hall):
    with hall.database.transaction() as change:
        change.audit(hall.now, "submission", JOB, b"the manifest")
        change.audit(hall.now, "misconduct", f"{JOB} br some-check", b"signed bytes")
    assert hall.book.document(hashlib.sha256(b"the manifest").digest()) == ("submission", b"the manifest")
    for digest in (hashlib.sha256(b"signed bytes").digest(), bytes(32), b""):
        with pytest.raises(NotFound):
            hall.book.document(digest)


def test_old_heads_go(hall):
    for _ in range(HEADS_KEPT + 3):
        hall.grow(1)
        hall.now += 6
        hall.cosign("br", hall.book.head())
    with hall.database.transaction() as change:
        assert change.log.head(3) is None
        assert change.log.cosignatures(3) == {}
        assert change.log.head(4) is not None
    assert hall.book.prove(b"", 1, 0).note  # old entries are proved in a newer head


def test_a_stranger_reads_it_over_http(hall):
    hall.grow(300)
    server = WebServer("127.0.0.1:0", CollectorRegistry(), lambda: True, hall.book)
    try:

        def fetch(path, limit):
            with urllib.request.urlopen(f"http://{server.address}/log/{path}", timeout=10) as answer:
                return answer.read(limit)

        assert verify_log(fetch, hall.book.key).head.size == 300
        for path in ("tile/0/002", "tile/9/000", "tile/0/..%2f", "nothing", "", "tile/entries/001.p/45"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(path, 100)
            assert refused.value.code == 404
            refused.value.close()
    finally:
        server.close()


def test_the_key_is_made_once(tmp_path, hall):
    home = Home(tmp_path / "home")
    key = log_signer(home, FEDERATION, hall.database)
    assert home.key("log").stat().st_mode & 0o777 == 0o600
    assert log_signer(home, FEDERATION, hall.database).public == key.public
    assert home.log_key.read_text().startswith("concord/atlas+")
    hall.book.head()
    home.key("log").unlink()
    with pytest.raises(InvalidUsage, match="missing"):
        log_signer(home, FEDERATION, hall.database)
    write_private(home.key("log"), key.to_pem())
    home.key("log").chmod(0o640)
    with pytest.raises(FederationError):
        log_signer(home, FEDERATION, hall.database)


def test_a_key_that_the_charter_does_not_name_signs_nothing(tmp_path, hall):
    home = Home(tmp_path / "home")
    named = make_log_key(home, FEDERATION)
    assert log_key(FEDERATION, log_signer(home, FEDERATION, hall.database, named).public) == named
    other = log_key(FEDERATION, SigningKey.generate().public)
    with pytest.raises(InvalidUsage, match="names another key") as refused:
        log_signer(home, FEDERATION, hall.database, other)
    assert "by vote" in refused.value.hint
    home.key("log").unlink()
    with pytest.raises(InvalidUsage, match="charter names it"):
        log_signer(home, FEDERATION, hall.database, named)
    assert not home.key("log").exists(), "no other is made in its place"


def test_a_log_goes_on_under_another_key_only_where_the_charter_names_it(tmp_path, hall):
    """The database came along to another home. Heads from before are signed again, each with the time that it had."""
    hall.grow(3)
    before = [hall.book.head_since(0)[0].note]
    hall.cosign("br", hall.book.head())
    hall.now += 10
    hall.grow(4)
    before.append(hall.book.head_since(0)[0].note)
    home = Home(tmp_path / "there")
    named = make_log_key(home, FEDERATION)
    with pytest.raises(InvalidUsage, match="another key than this coordinator's"):
        log_signer(home, FEDERATION, hall.database)
    old, key = hall.book.key, log_signer(home, FEDERATION, hall.database, named)
    hall.signing = key
    hall.book = hall.reopened()
    head, seen = hall.book.head_since(3)
    held, shown = open_head(before[0], old), open_head(head.note, named)
    assert follow(named, held, shown, head.path, old) is None
    assert (shown.size, shown.time) == (7, open_head(before[1], old).time)
    assert [open_head(each.note, named).size for each in seen] == [3], (
        "what others have cosigned is shown under the new key"
    )
    assert open_head(seen[0].note, named).time == held.time, (
        "a later time on fewer entries would convict the log itself"
    )
    assert log_signer(home, FEDERATION, hall.database, named).public == key.public


def test_a_vote_for_another_key_is_told_to_the_operator(hall):
    charter = hall.roll.charter
    for key, said in ((hall.book.key, 0), (log_key(FEDERATION, SigningKey.generate().public), 1)):
        moved = replace(hall.roll, charter=replace(charter, coordinator=replace(charter.coordinator, log=key)))
        with capture_logs() as logs:
            hall.book.amended(hall.roll, moved)
        assert [line["event"] for line in logs] == ["log.key-moved"] * said
