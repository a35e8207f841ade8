"""`concord audit` over a copy of the log: it checks what it says, refuses what was altered, and its page runs nobody's script."""

import hashlib
import json
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coordinator.client.audit_report import SECTIONS, chosen, page, sentence
from coordinator.client.examined import Examined
from coordinator.client.home import Home
from coordinator.client.log_keys import Trusted
from coordinator.client.said import FILE, LATE_SECONDS, note
from federation.audit.checkpoint import VerifierKey
from federation.audit.entry import SHAPES, Entry, entry_of, open_entry
from federation.audit.history import Evidence
from federation.audit.verify import verify_log
from federation.errors import InvalidIdentity, InvalidUsage, NotFound, VerificationFailed
from federation.governance.charter import Charter, Seat
from tests.unit.audit.logs import JOB, NOW, MadeLog, fetching, some_entries
from tests.unit.audit.test_entries import sample
from tests.unit.client.typed import concord, done, refused, typed
from tests.unit.governance.members import founded

OTHER_JOB = "cd" * 32


def story():
    """One of each kind, and a second job."""
    entries = []
    for number, (kind, shape) in enumerate(sorted(SHAPES.items())):
        words = " ".join(f"{name}={sample(name)}" for name in shape.fields)
        entries.append(entry_of(kind, words, bytes([number]) * 32, NOW + number).encode())
    entries.append(entry_of("submission", OTHER_JOB, bytes(32), NOW + 100).encode())
    return entries


@pytest.fixture(scope="module")
def log():
    return MadeLog(story())


@pytest.fixture
def folder(log, tmp_path):
    return written(log, tmp_path / "log")


def written(log: MadeLog, folder: Path, size: int | None = None) -> Path:
    for path, content in log.files(size).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_a_copy_is_verified_and_says_what_was_checked(log, folder, tmp_path):
    answer = done(concord("audit", "verify", "--folder", folder, "--key", str(log.key), "-o", "json"))
    document = json.loads(answer.out)
    assert (document["verified"], document["size"]) == (True, len(log.entries))
    assert document["kinds"]["consent"] == 1
    assert len(document["checks"]) == 3
    assert [sentence.split()[0] for sentence in document["unchecked"]] == ["The", "Whether", "Cosignatures:"]
    assert document["keyNamedByCharter"] is False
    assert str(log.key) in answer.err
    key = tmp_path / "log.key"
    key.write_text(f"{log.key}\n")
    (tmp_path / "head").write_bytes(log.note(4))
    text = done(concord("audit", "verify", "--folder", folder, "--key", key, "--since", tmp_path / "head")).out
    assert text.count("ok ") == 4
    assert "continues the older head of 4" in text


def test_the_installed_command_needs_no_network_and_no_home(log, folder, tmp_path):
    answer = done(typed("concord", "audit", "verify", "--folder", "log", "--key", str(log.key), folder=tmp_path))
    assert "signed root" in answer.out


def test_the_key_must_be_named_and_right(log, folder):
    refused(concord("audit", "verify", "--folder", folder, "--home", folder / "none"), InvalidUsage, "Nobody has named")
    refused(
        concord("audit", "verify", "--folder", folder, "--key", str(MadeLog([]).key)), VerificationFailed, "not signed"
    )
    refused(concord("audit", "verify", "--folder", folder, "--key", "a+b+c"), InvalidIdentity, "no key of a log")
    refused(concord("audit", "verify", "--folder", folder, "--key", folder / "absent"), NotFound, "does not exist")
    (folder / "log.key").write_text(f"{log.key}\n")
    answer = done(concord("audit", "verify", "--folder", folder, "--home", folder / "none"))
    assert "names it" in answer.err, "who vouches for the key is said"


def test_what_was_altered_is_named_and_no_page_is_written(log, folder, tmp_path):
    bundle = next((folder / "tile" / "entries").rglob("*.p/*"))
    bundle.write_bytes(bundle.read_bytes().replace(b'"yes"', b'"no"'))
    out = tmp_path / "log.html"
    for words in (("verify",), ("report", "--html", out)):
        refused(concord("audit", *words, "--folder", folder, "--key", str(log.key)), VerificationFailed, "tile/entries")
    assert not out.exists()


def test_a_rewritten_log_does_not_continue_a_head_that_was_kept(log, folder, tmp_path):
    other = MadeLog([*log.entries[:3], *some_entries(9)], signing=log.signing)
    (tmp_path / "head").write_bytes(other.note())
    words = ("--folder", folder, "--key", str(log.key), "--since", tmp_path / "head")
    refused(concord("audit", "verify", *words), VerificationFailed, "not those of the older head")


def test_evidence_of_a_fork_is_checked_offline(log, tmp_path):
    other = MadeLog([*log.entries[:3], *some_entries(9)], signing=log.signing)
    file = tmp_path / "x.fork"
    file.write_bytes(Evidence(log.key, log.head(5), other.head(9), other.path(5, 9)).encode())
    answer = done(concord("audit", "fork", file, "--key", str(log.key)))
    assert "other-history" in answer.out
    assert "are not those" in answer.err
    refused(concord("audit", "fork", file, "--key", str(MadeLog([]).key)), VerificationFailed, "about the log")
    file.write_bytes(Evidence(log.key, log.head(5), log.head(9), log.path(5, 9)).encode())
    refused(concord("audit", "fork", file), VerificationFailed, "nothing in the file proves")


def test_a_proof_is_checked_offline(log, tmp_path):
    file = tmp_path / "x.tlog-proof"
    file.write_bytes(log.inclusion(3).encode())
    answer = done(concord("audit", "check", file, "--key", str(log.key), "--home", tmp_path))
    assert open_entry(log.entries[3]).kind in answer.out
    file.write_bytes(log.inclusion(3).encode().replace(b"index 3", b"index 4"))
    refused(
        concord("audit", "check", file, "--key", str(log.key), "--home", tmp_path), VerificationFailed, "not in the log"
    )


def test_the_report_tells_every_kind_and_can_be_of_one_job(log, folder, tmp_path):
    out = tmp_path / "log.html"
    done(concord("audit", "report", "--folder", folder, "--key", str(log.key), "--html", out))
    text = out.read_text()
    for title, _ in SECTIONS:
        assert f"<h2>{title}</h2>" in text
    assert all(f"<td>{kind}</td>" in text for kind in SHAPES)
    done(concord("audit", "report", "--folder", folder, "--key", str(log.key), "--html", out, "--job", OTHER_JOB[:8]))
    assert out.read_text().count("submission</td>") == 1
    assert "Halts" not in out.read_text()
    words = ("--folder", folder, "--key", str(log.key), "--json", "--job", JOB)
    document = json.loads(done(concord("audit", "report", *words)).out)
    assert {entry["fields"]["job"] for entry in document["entries"]} == {JOB}
    refused(concord("audit", "report", "--folder", folder, "--key", str(log.key)), InvalidUsage, "needs a form")


def test_every_kind_is_in_one_section_and_has_words():
    told = [kind for _, kinds in SECTIONS for kind in kinds]
    assert sorted(told) == sorted(SHAPES)
    for data in story():
        assert sentence(open_entry(data))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.attributes = set(), set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attributes}


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{{ 7*7 }}",
        "</style><b>",
        "'; --",
        "\u202eevil",
        "&lt;",
    ],
)
def test_hostile_texts_stay_texts(log, hostile):
    """Entries cannot hold them, as the list is closed; the page does not rely on that."""
    found = verify_log(fetching(log.files()), log.key)
    entries = [(0, Entry(kind, NOW, dict.fromkeys(shape.fields, hostile), None)) for kind, shape in SHAPES.items()]
    plain, evil = (
        page(
            Examined(found, Trusted(log.key, words), 0, 0),
            [(number, entry) for number, entry in entries if words == hostile],
            job,
        )
        for words, job in (("fine", "fine"), (hostile, ""))
    )
    assert ("{{ 7*7 }}" in evil) == (hostile == "{{ 7*7 }}")
    tags = Tags()
    tags.feed(evil)
    assert tags.seen <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "code", "table", "caption",
                         "thead", "tbody", "tr", "th", "td"}  # fmt: skip
    assert not {name for name in tags.attributes if name.startswith("on") or name in {"src", "href"}}
    assert plain


def test_a_filter_is_a_beginning(log):
    entries = [(number, open_entry(data)) for number, data in enumerate(log.entries)]
    assert len(chosen(entries, "")) == len(entries)
    assert [entry.fields["job"] for _, entry in chosen(entries, "cd")] == [OTHER_JOB]
    assert chosen(entries, "ef") == []


def test_the_key_of_the_first_login_is_kept_and_no_other_is_accepted(log, folder, tmp_path):
    home = Home.at(tmp_path / "home")
    home.trust_log_key(str(log.key))
    home.trust_log_key(str(log.key))
    with pytest.raises(InvalidIdentity, match="another key"):
        home.trust_log_key(str(MadeLog([]).key))
    answer = done(concord("audit", "verify", "--folder", folder, "--home", home.path))
    assert "log.key has it" in answer.err
    (folder / "log.key").write_text(f"{MadeLog([]).key}\n")
    done(concord("audit", "verify", "--folder", folder, "--home", home.path))  # the home's own comes first


# --------------------------------------------------------------------------------------------------- keys that a charter names


def chartered(*keys: VerifierKey) -> bytes:
    """A roll that named these, one after the other."""
    first, *later = (replace(Charter.standard(), coordinator=Seat(log=key)) for key in keys)
    members = founded(charter=first)
    for charter in later:
        members = members.amended(("br", "fr", "in", "jp"), "coordinator", charter=charter)
    return members.roll.envelope


def test_the_charter_names_the_key_and_the_report_says_so(log, folder, tmp_path):
    """Without a node, a login or a key: a roll is enough."""
    (tmp_path / "roll.json").write_bytes(chartered(log.key))
    words = ("--folder", folder, "--roll", tmp_path / "roll.json", "--home", tmp_path / "none")
    document = json.loads(done(concord("audit", "verify", *words, "-o", "json")).out)
    assert document["keyNamedByCharter"] is True
    said = f"The log's key {log.key} is named by the members' charter since version 1 of the roll."
    assert document["checks"][0] == said
    out = tmp_path / "log.html"
    done(concord("audit", "report", *words, "--html", out))
    text = unescape(out.read_text())
    assert said in text
    assert "What was not checked" in text
    assert all(sentence in text for sentence in (*document["checks"], *document["unchecked"]))
    done(concord("audit", "report", *words, "--html", out, "--since", folder / "checkpoint"))
    assert "name one that you kept" not in out.read_text()


def test_a_log_under_another_key_than_the_charters_is_refused(log, folder, tmp_path):
    """Attack 56: neither what the copy brings along nor what a home kept at its first login stands against the charter."""
    right = MadeLog([]).key
    (tmp_path / "roll.json").write_bytes(chartered(right))
    (folder / "log.key").write_text(f"{log.key}\n")
    home = Home.at(tmp_path / "home")
    home.trust_log_key(str(log.key))
    words = ("--folder", folder, "--roll", tmp_path / "roll.json", "--home", home.path)
    refused(concord("audit", "verify", *words), VerificationFailed, f"with the key {right.id.hex()}")
    refused(concord("audit", "verify", *words, "--key", str(log.key)), VerificationFailed, "charter names", str(right))
    home.trust_roll(chartered(right))
    refused(concord("audit", "verify", "--folder", folder, "--home", home.path), VerificationFailed, "not signed")
    assert "another key" in home.trust_log_key(str(log.key), home.roll()), "a login says it"
    assert home.trust_log_key(str(right), home.roll()) == ""
    assert home.log_key() == right


def test_what_was_kept_from_before_a_vote_for_another_key_is_still_of_use(log, folder, tmp_path):
    """A head and a proof that bear the key from before; and evidence over both keys."""
    before = MadeLog(log.entries[:9])
    (tmp_path / "roll.json").write_bytes(chartered(before.key, log.key))
    (tmp_path / "head").write_bytes(before.note())
    words = ("--folder", folder, "--roll", tmp_path / "roll.json", "--home", tmp_path / "none")
    answer = done(concord("audit", "verify", *words, "--since", tmp_path / "head"))
    assert "since version 2" in answer.out
    assert "continues the older head of 9" in answer.out
    (tmp_path / "x.tlog-proof").write_bytes(before.inclusion(3).encode())
    answer = done(concord("audit", "check", tmp_path / "x.tlog-proof", *words))
    assert f"this head bears {before.key}" in answer.err
    other = MadeLog([*log.entries[:3], *some_entries(9)], signing=log.signing)
    (tmp_path / "x.fork").write_bytes(
        Evidence(log.key, before.head(5), other.head(9), other.path(5, 9), before.key).encode()
    )
    assert "other-history" in done(concord("audit", "fork", tmp_path / "x.fork", "--roll", tmp_path / "roll.json")).out
    refused(concord("audit", "fork", tmp_path / "x.fork"), VerificationFailed, "nothing says that both", "--roll")


def test_a_home_of_another_federation_says_nothing_about_this_log(log, folder, tmp_path):
    other = MadeLog(log.entries, federation="other")
    copy = written(other, tmp_path / "other")
    home = Home.at(tmp_path / "home")
    home.trust_roll(chartered(log.key))
    done(concord("audit", "verify", "--folder", copy, "--key", str(other.key), "--home", home.path))


# ------------------------------------------------------------------------------------------------------ what a home has said


def test_what_a_home_has_signed_must_be_in_the_log(log, folder, tmp_path, monkeypatch):
    """Attack 57, for people: a vote that the coordinator took and kept from the log is found by whoever cast it."""
    monkeypatch.setattr("coordinator.client.said.time.time", lambda: float(NOW))
    home = tmp_path / "home"
    home.mkdir()
    vote = b"a vote"
    holding = MadeLog(
        [*log.entries, entry_of("vote", f"{JOB} br yes", hashlib.sha256(vote).digest(), NOW).encode()],
        signing=log.signing,
    )
    words = ("--key", str(log.key), "--home", home)
    note(home, "other", "vote", b"in another federation")
    done(concord("audit", "verify", "--folder", folder, *words))
    note(home, "atlas", "vote", vote)
    note(home, "atlas", "vote", vote)
    answer = done(concord("audit", "verify", "--folder", folder, *words))
    assert "has signed" not in answer.out, "the head is of that very second"
    later = written(log, tmp_path / "later")
    (later / "checkpoint").write_bytes(log.note(time=NOW + LATE_SECONDS + 1))
    for command in (("verify",), ("report", "--json")):
        refused(
            concord("audit", *command, "--folder", later, *words),
            VerificationFailed,
            "lacks what this home has signed",
            "a vote of",
        )
    whole = written(holding, tmp_path / "whole")
    (whole / "checkpoint").write_bytes(holding.note(time=NOW + LATE_SECONDS + 1))
    assert "It holds all 1 that this home has signed" in done(concord("audit", "verify", "--folder", whole, *words)).out
    (home / FILE).write_text("[")
    refused(concord("audit", "verify", "--folder", whole, *words), InvalidUsage, "said.json")
