"""The node's witness: it follows an honest log, and stops with evidence on disk for every other. What it knows survives it."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from federation.audit.checkpoint import check_cosignature, cosign, open_head, witness_key
from federation.audit.entry import entry_of
from federation.audit.history import open_evidence
from federation.audit.named_key import log_keys_of
from federation.errors import Halted, InvalidIdentity, InvalidUsage, NotFound, Unavailable, VerificationFailed
from federation.identity.keys import SigningKey
from node_agent.link.audit import HeadAnswer, ProofAnswer, Shown
from node_agent.settings import Home
from node_agent.witness import notebook as notes
from node_agent.witness.notebook import Notebook
from node_agent.witness.shown import about_key, begin_anew, print_state
from node_agent.witness.watcher import BLIND_SECONDS, LATE_SECONDS, LOOKED_FOR, Me, Witness
from tests.plain import log as plain
from tests.unit.audit.logs import JOB, NOW, MadeLog, MadeWitness, some_entries
from tests.unit.governance.members import founded
from tests.unit.identity.parties import found

ATLAS = founded()
"""whose charter names no key"""


@dataclass
class Coordinator:
    """Answers as ``script`` says: (log, size, time) of the head that it shows next."""

    log: MadeLog
    size: int | None = None
    time: int = NOW
    seen: list = field(default_factory=list)
    credentials: list = field(default_factory=list)
    error: Exception | None = None
    path: tuple | None = None
    asked: int = 0

    async def head(self, size):
        self.asked += 1
        if self.error is not None:
            raise self.error
        now = len(self.log.entries[: self.size])
        path = self.path if self.path is not None else self.log.path(size, now) if size <= now else ()
        return HeadAnswer(Shown(self.log.note(self.size, self.time), path), tuple(self.seen), str(self.log.key))

    async def prove(self, document, size):
        entries = self.log.entries[:size]
        for number, entry in enumerate(entries):
            if document.hex().encode() in entry:
                return ProofAnswer(entry, number, tuple(plain.inclusion(entries, number)))
        return None

    async def witnesses(self):
        return tuple(self.credentials)


class Node:
    def __init__(self, folder, coordinator):
        self.folder, self.coordinator = folder, coordinator
        self.key = SigningKey.generate()
        self.now = float(NOW)
        self.sent, self.stops, self.counts = [], [], []
        self.roll = ATLAS.roll
        self.restart()

    def restart(self):
        self.witness = Witness(
            Notebook(self.folder / "witness", log_keys_of(self.roll)), Me("atlas", "br", "br-1", self.key),
            lambda: self.roll, self.coordinator, self.sent.append, self.stops.append, lambda: self.now, 30.0, self.counts.append,
        )  # fmt: skip

    def poll(self):
        asyncio.run(self.witness.poll())

    def run(self):
        """Until it has stopped."""
        asyncio.run(asyncio.wait_for(self.witness.run(), 10))

    def evidence(self):
        (file,) = (self.folder / "witness").glob("*.fork")
        return open_evidence(file.read_bytes(), self.coordinator.log.key)

    def cosigned(self):
        event = self.sent[-1].log_cosignature
        key = witness_key("atlas", "br", "br-1", self.key.public)
        assert check_cosignature(event.line, self.coordinator.log.checkpoint(event.size), key) == int(self.now)
        return event.size


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, Coordinator(MadeLog(some_entries(5))))


def test_it_follows_cosigns_and_remembers(node):
    node.poll()
    assert node.cosigned() == 5
    node.coordinator.log.entries += some_entries(300)[5:]
    node.poll()
    assert node.cosigned() == 300
    assert node.stops == []
    kept = open_head((node.folder / "witness" / "head").read_bytes(), node.coordinator.log.key)
    assert kept.size == 300
    node.restart()
    assert node.witness.notebook.head == kept
    node.coordinator.log.entries += some_entries(301)[300:]
    node.poll()
    assert node.cosigned() == 301


def test_a_head_is_on_disk_before_it_is_signed(node, monkeypatch):
    """Killed between the two, the node has signed nothing that it does not remember."""

    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("node_agent.witness.watcher.cosign", killed)
    with pytest.raises(KeyboardInterrupt):
        node.poll()
    monkeypatch.undo()
    assert node.sent == []
    node.restart()
    assert node.witness.notebook.head.size == 5


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("size", "time", "finding"),
    [
        (5, NOW + 60, "two-roots"),
        (9, NOW + 60, "other-history"),
        (3, NOW + 60, "taken-back"),
        (3, NOW - 60, "unreconciled"),
    ],
)
def test_a_fork_or_a_rollback_stops_the_node_with_evidence(node, restarted, size, time, finding):
    node.poll()
    if restarted:
        node.restart()
    other = MadeLog(
        [*node.coordinator.log.entries[:2], *some_entries(20, b"!")[2:]], signing=node.coordinator.log.signing
    )
    node.coordinator.log, node.coordinator.size, node.coordinator.time = other, size, time
    signed = len(node.sent)
    node.run()
    assert len(node.stops) == 1
    assert len(node.sent) == signed, "it cosigns nothing that it does not believe"
    assert node.evidence().finding == finding
    with pytest.raises(Halted, match="witness"):
        node.witness.check()
    node.restart()
    assert node.witness.stopped, "it stays stopped after a restart"
    before = node.coordinator.asked
    node.run()
    assert node.coordinator.asked == before


def test_a_fork_that_another_node_was_shown_stops_this_one(node, tmp_path):
    """Attack 49 seen from one side: the coordinator passes on what the other node cosigned, or a stranger brings it."""
    log, ours = node.coordinator.log, MadeWitness("ke")
    other = MadeLog([*log.entries[:3], *some_entries(9, b"!")[3:]], signing=log.signing)
    node.poll()
    for seen, finding in (
        (Shown(other.note(5) + ours.line(other.checkpoint(5)), ()), "two-roots"),
        (Shown(other.note(4) + ours.line(other.checkpoint(4)), other.path(4, 5)), "unreconciled"),
        (Shown(other.note(4) + ours.line(other.checkpoint(4)), log.path(4)), "other-history"),
    ):
        fresh = Node(tmp_path / finding, Coordinator(log, seen=[seen]))
        fresh.run()
        assert fresh.evidence().finding == finding


def test_cosignatures_of_other_nodes_are_checked_and_remembered(node):
    parties = found("ch", "fr", "ke")
    node.roll = parties.roll
    log = MadeLog(some_entries(5), federation=parties.roll.federation)
    node.coordinator.log = log
    key = SigningKey.generate()
    credential = parties.credential("ke", key)
    theirs = witness_key(parties.roll.federation, "ke", credential.node, key.public)
    node.coordinator.credentials = [b"garbage", credential.envelope]
    line = cosign(log.checkpoint(4), theirs.name, key, NOW - 3)
    stranger = MadeWitness("zz").line(log.checkpoint(4))
    node.coordinator.seen = [Shown(log.note(4) + line + stranger, log.path(4))]
    node.witness._me = Me(parties.roll.federation, "br", "br-1", node.key)
    node.poll()
    assert node.witness.notebook.state.seen == {theirs.name: (4, NOW - 3)}
    node.restart()
    assert node.witness.notebook.state.seen == {theirs.name: (4, NOW - 3)}


def test_another_key_stops_the_node(node):
    node.poll()
    node.coordinator.log = MadeLog(node.coordinator.log.entries)
    node.run()
    assert node.witness.notebook.state.stop.finding == "unverifiable"
    assert len(node.stops) == 1


def test_a_key_of_another_federation_is_not_pinned(node, tmp_path):
    node.coordinator.log = MadeLog(some_entries(3), federation="other")
    node.run()
    assert node.witness.notebook.key is None
    for named in ("", "x+y+z", str(MadeWitness("br").key)):
        with pytest.raises(InvalidIdentity):
            notes.checked_key(tmp_path / "pins", ATLAS.roll, named)
    book, key = Notebook(tmp_path / "pins"), MadeLog([]).key
    assert book.pin(ATLAS.roll, str(key)) == book.pin(ATLAS.roll, str(key)) == key
    with pytest.raises(InvalidIdentity, match="another key"):
        book.pin(ATLAS.roll, str(MadeLog([]).key))


# ------------------------------------------------------------------------------------------------- keys that a charter names


def naming(key, federation=ATLAS):
    """The members vote for the log's key."""
    charter = federation.roll.charter
    moved = replace(charter, coordinator=replace(charter.coordinator, log=key))
    return federation.amended(("br", "fr", "in", "jp"), "coordinator", charter=moved)


@pytest.fixture
def named(tmp_path):
    """A node under a charter that names the log's key."""
    node = Node(tmp_path, Coordinator(MadeLog(some_entries(5))))
    node.members = naming(node.coordinator.log.key)
    node.roll = node.members.roll
    return node


def rekeyed(node, entries=None):
    """The log goes on under a new key."""
    before = node.coordinator.log
    node.coordinator.log = MadeLog(entries or [*before.entries, *some_entries(9)[5:]])
    node.coordinator.time += 5
    node.members = naming(node.coordinator.log.key, node.members)


def test_log_key_swapped_by_the_coordinator(named):
    """Attack 56: at first sight, and later, also over the very tree that the node holds."""
    theirs = named.coordinator.log
    named.coordinator.log = MadeLog(theirs.entries)
    named.run()
    assert (named.sent, named.witness.notebook.head, named.witness.notebook.key) == ([], None, None)
    assert "charter names that key" in named.witness.stopped
    notes.reset(named.folder / "witness", new_key=True)
    named.restart()
    named.coordinator.log = theirs
    named.poll()
    assert named.cosigned() == 5
    named.coordinator.log = MadeLog(theirs.entries)
    named.run()
    assert len(named.sent) == 1, "nothing under another key is cosigned"
    assert named.witness.notebook.state.stop.finding == "unverifiable"


def test_without_a_name_in_the_charter_the_first_sight_decides(named):
    """What the name is for: the same swap is believed by a node that has seen nothing yet."""
    named.roll = ATLAS.roll
    named.coordinator.log = MadeLog(named.coordinator.log.entries)
    named.poll()
    assert named.cosigned() == 5


def test_a_vote_changes_the_key_and_the_tree_goes_on(named):
    named.poll()
    old = named.coordinator.log
    rekeyed(named)
    named.roll = named.members.roll
    named.poll()
    assert named.cosigned() == 9
    named.restart()
    assert (named.witness.notebook.key, named.witness.notebook.head.size) == (named.coordinator.log.key, 9)
    named.coordinator.log, named.coordinator.time = old, NOW + 10
    with pytest.raises(Unavailable, match="the key from before"):
        named.poll()
    assert not named.witness.stopped, "an operator who is late stops nobody; and nothing is cosigned"
    assert len(named.sent) == 2


def test_the_same_tree_under_the_new_key_is_kept_under_it(named):
    named.poll()
    rekeyed(named, named.coordinator.log.entries)
    named.roll = named.members.roll
    named.poll()
    named.restart()
    assert (named.witness.notebook.key, named.witness.notebook.head.size) == (named.coordinator.log.key, 5)


def test_a_key_without_a_vote_is_not_waited_for(named):
    """The coordinator signs with a new key, and says that the members have voted; this node holds no such roll."""
    named.poll()
    rekeyed(named)
    named.run()
    assert "charter names that key" in named.witness.stopped


@pytest.mark.parametrize(("size", "finding"), [(9, "other-history"), (5, "two-roots"), (3, "unreconciled")])
def test_a_new_key_does_not_cover_a_rewritten_history(named, size, finding):
    """The evidence holds one head under each key, and convicts with a roll whose charter has named both."""
    named.poll()
    before = named.coordinator.log.key
    rekeyed(named, [*named.coordinator.log.entries[:2], *some_entries(9, b"!")[2:]])
    named.roll, named.coordinator.size, named.coordinator.time = named.members.roll, size, NOW - 5
    named.run()
    (file,) = (named.folder / "witness").glob("*.fork")
    known = log_keys_of(named.roll)
    evidence = open_evidence(file.read_bytes(), named.coordinator.log.key, known)
    assert (evidence.finding, evidence.before) == (finding, before)
    with pytest.raises(VerificationFailed, match="nothing says that both were this log's"):
        open_evidence(file.read_bytes(), named.coordinator.log.key, known[:1])


def test_a_crash_between_the_new_head_and_its_key_is_no_damage(named):
    named.poll()
    old = (named.folder / "witness" / "log.key").read_bytes()
    rekeyed(named)
    named.roll = named.members.roll
    named.poll()
    (named.folder / "witness" / "log.key").write_bytes(old)
    named.restart()
    assert named.witness.notebook.key == named.coordinator.log.key
    with pytest.raises(InvalidUsage, match="damaged"):
        Notebook(named.folder / "witness")


def test_a_lab_sees_who_names_the_key_and_cannot_choose_another(tmp_path, capsys):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.roll.write_bytes(ATLAS.roll.envelope)
    print_state(home, "table")
    assert "WARNING" in (told := capsys.readouterr().out)
    assert "concord propose coordinator --log-key" in told
    assert about_key(home) in told, "as `concord-node join` says it"
    key = MadeLog([]).key
    home.roll.write_bytes(naming(key).roll.envelope)
    print_state(home, "table")
    told = capsys.readouterr().out
    assert "WARNING" not in told
    assert about_key(home) == ""
    assert f"named by the members' charter since version 2 of the roll: {key}" in told
    with pytest.raises(InvalidUsage, match="no node chooses another"):
        begin_anew(home, yes=True, new_key=True)
    with pytest.raises(InvalidIdentity, match="the members' charter names"):
        notes.checked_key(home.witness, naming(key).roll, str(MadeLog([]).key))
    assert notes.checked_key(home.witness, naming(key).roll, str(key)) == key


def test_a_head_from_the_future_is_not_believed(node):
    """It would hide a rollback from the log's own timestamps. But it may be this machine's clock: nothing stops."""
    node.poll()
    node.coordinator.log.entries += some_entries(9)[5:]
    node.coordinator.time = NOW + 10_000
    with pytest.raises(Unavailable, match="ahead of this machine's clock"):
        node.poll()
    assert node.witness.notebook.head.size == 5
    assert len(node.sent) == 1
    assert node.stops == []


@pytest.mark.parametrize("error", [Unavailable("down"), NotFound("no such method"), InvalidUsage("what?")])
def test_a_log_that_cannot_be_reached_stops_nobody(node, error):
    node.poll()
    node.coordinator.error = error
    for _ in range(3):
        with pytest.raises(Unavailable):
            node.poll()
    assert node.stops == []


def test_a_log_out_of_reach_is_told_once(node):
    node.coordinator.error = Unavailable("down")

    async def story():
        running = asyncio.ensure_future(node.witness.run())
        for _ in range(4):
            asked = node.coordinator.asked
            node.now += BLIND_SECONDS
            node.witness.hint()
            while node.coordinator.asked == asked:
                await asyncio.sleep(0)
        running.cancel()

    with capture_logs() as told:
        asyncio.run(asyncio.wait_for(story(), 10))
    assert [line["event"] for line in told] == ["witness.blind"]


def said(node, envelope):
    return entry_of("consent", f"{JOB} br br-1 granted", hashlib.sha256(envelope).digest(), NOW).encode()


def test_what_the_node_said_must_be_in_the_log_in_time(node):
    node.witness.expect(b"consent", "consent", bytes.fromhex(JOB))
    node.witness.expect(b"consent", "consent", bytes.fromhex(JOB))
    node.now += 10 * LATE_SECONDS
    node.poll()
    assert [each.late for each in node.witness.notebook.state.expected] == [False], "nobody could read the log before"
    node.now += LATE_SECONDS + 1
    node.restart()
    with capture_logs() as told:
        node.poll()
        node.poll()
    assert [each.late for each in node.witness.notebook.state.expected] == [True]
    assert [line["event"] for line in told] == ["witness.missing"]
    assert node.counts == ["log_missing"]
    assert node.stops == []
    node.coordinator.log.entries.append(said(node, b"consent"))
    node.poll()
    assert node.witness.notebook.state.expected == ()


DOCUMENT = hashlib.sha256(b"cohort certificate").digest()


@pytest.mark.parametrize("what", ["roster", "round-closed", "certificate", "catalogue"])
def test_an_entry_that_the_coordinator_leaves_out_is_missed(node, what):
    """Attack 57: of what this node has signed or helped to sign, each kind. It is found over a restart, and after the job."""
    node.witness.expect_document(DOCUMENT, what, bytes.fromhex(JOB))
    node.poll()
    node.restart()
    node.witness.settle(bytes.fromhex(JOB))
    node.now += LATE_SECONDS + 1
    with capture_logs() as told:
        node.poll()
    assert [(line["event"], line["what"]) for line in told] == [("witness.missing", what)]
    assert node.counts == ["log_missing"]


def test_what_is_long_missing_does_not_keep_the_rest_from_being_looked_for(node):
    for number in range(LOOKED_FOR):
        node.witness.expect_document(number.to_bytes(32, "big"), "round-closed")
    node.poll()
    node.now += LATE_SECONDS + 1
    node.poll()
    assert node.counts == ["log_missing"] * LOOKED_FOR
    node.witness.expect_document(hashlib.sha256(b"consent").digest(), "certificate")
    node.coordinator.log.entries.append(said(node, b"consent"))
    node.poll()
    assert len(node.witness.notebook.state.expected) == LOOKED_FOR


def test_what_was_refused_or_replaced_is_owed_no_more(node):
    node.witness.expect_document(DOCUMENT, "catalogue")
    node.witness.forget(DOCUMENT)
    node.poll()
    assert node.witness.notebook.state.expected == ()


def test_no_more_is_awaited_than_is_kept(node):
    for number in range(notes.EXPECTED_KEPT + 5):
        node.witness.expect_document(number.to_bytes(32, "big"), "round-closed")
    node.poll()
    assert len(node.witness.notebook.state.expected) == notes.EXPECTED_KEPT


def test_what_was_said_for_a_job_that_is_over_is_waited_for_no_longer(node):
    node.witness.expect(b"consent", "consent", bytes.fromhex(JOB))
    node.witness.expect(b"approval", "approval")
    node.witness.settle(bytes.fromhex(JOB))
    node.witness.settle(b"")
    assert [each.what for each in node.witness.notebook.state.expected] == ["approval"]


def test_a_log_that_proves_from_another_history_than_it_showed_is_convicted_by_its_next_head(node):
    """It stops lying to this node between the head and the proof: the proof alone would be the node's word."""
    true = node.coordinator.log
    true.entries.append(said(node, b"consent"))
    node.witness.expect(b"consent", "consent")
    node.coordinator.log = MadeLog([*true.entries[:-1], true.entries[0]], signing=true.signing)
    answer = node.coordinator.prove

    async def prove(document, size):
        node.coordinator.log = true
        return await answer(document, size)

    node.coordinator.prove = prove
    node.run()
    assert node.evidence().finding == "two-roots"


def test_a_false_proof_of_what_the_node_said_stops_it(node):
    node.witness.expect(b"consent", "consent", bytes.fromhex(JOB))

    async def prove(document, size):
        entries = node.coordinator.log.entries
        return ProofAnswer(entries[0], 0, tuple(plain.inclusion(entries, 0)))

    node.coordinator.prove = prove
    node.run()
    assert node.witness.notebook.state.stop.finding == "unverifiable"


def test_shown_and_reset(tmp_path, capsys):
    home = Home(tmp_path)
    node = Node(home.root, Coordinator(MadeLog(some_entries(5))))
    print_state(home, "table")
    assert "none seen yet" in capsys.readouterr().out
    node.witness.expect(b"consent", "consent", bytes.fromhex(JOB))
    node.poll()
    node.coordinator.size, node.coordinator.time = 2, NOW + 5
    node.run()
    print_state(home, "table")
    told = capsys.readouterr().out
    assert "STOPPED" in told
    assert ".fork" in told
    print_state(home, "json")
    document = json.loads(capsys.readouterr().out)
    assert document["stopped"]["finding"] == "taken-back"
    assert [each["what"] for each in document["waitingFor"]] == ["consent"]
    with pytest.raises(InvalidUsage, match="forget"):
        begin_anew(home, yes=False, new_key=False)
    begin_anew(home, yes=True, new_key=False)
    node.restart()
    assert not node.witness.stopped
    assert node.witness.notebook.key is not None
    assert list((home.witness).glob("*.fork")), "evidence stays"
    node.poll()
    assert node.cosigned() == 2
    begin_anew(home, yes=True, new_key=True)
    assert Notebook(home.witness).key is None


@pytest.mark.parametrize("name", ["head", "state.json", "log.key"])
def test_a_damaged_notebook_is_said_and_not_begun_anew(node, name):
    node.poll()
    node.witness.expect(b"consent", "consent")
    file = node.folder / "witness" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InvalidUsage, match="damaged"):
        node.restart()
    notes.reset(node.folder / "witness", new_key=True)
    node.restart()
    node.poll()
