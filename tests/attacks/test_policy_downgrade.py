"""Attack 54: a policy pack is downgraded. Somebody puts an older pack in place of the one that takes something away, changes it
under the same serial, or takes it out; a coordinator hands out a roll whose charter has an older base pack. Every job is denied
until somebody sees to it, what was offered is kept, and the memory of it is on disk before a pack decides anything.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from federation.errors import InvalidUsage, NotFound
from federation.governance.charter import Charter
from federation.identity.roll import Roll
from federation.policy.question import Question
from federation.policy.rules import Policy, evaluate
from federation.policy.verdict import Verdict
from node_agent.consent.packs import CHECK, forget, held_policy
from node_agent.settings import Home
from node_agent.store.evidence import EvidenceFolder, Piece
from tests.unit.governance.members import founded
from tests.unit.policy.asked import PARTIES, WIDE, pack_text, policy_text, question

FOUR = ("br", "fr", "in", "jp")
LAX = {"maxRounds": 50}
STRICT = {"maxRounds": 5}


class Lab:
    """A home with a policy that grants the job, and packs as files."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.policy_file.write_text(policy_text(WIDE))
        self.home.packs.mkdir()
        self.kept = EvidenceFolder(self.home.evidence)

    def pack(self, rules: Any, serial: int = 1, name: str = "ke-law", file: str = "ke-law.yaml", **more: Any) -> Path:
        path = self.home.packs / file
        path.write_text(pack_text(rules, name, serial=serial, **more))
        return path

    def policy(self, roll: Roll = PARTIES.roll) -> Policy:
        return held_policy(self.home, "policy.yaml", roll, self.kept.keep)

    def says(self, roll: Roll = PARTIES.roll, asked: Question | None = None) -> Verdict:
        return evaluate(self.policy(roll), asked or question())

    def evidence(self) -> list[Piece]:
        return [piece for _, piece in self.kept.pieces()]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_pack_of_an_older_serial_is_refused_with_evidence(lab: Lab) -> None:
    lab.pack(STRICT, serial=2)
    assert [finding.rule for finding in lab.says().deciding] == ["rules.maxRounds"]
    lab.pack(LAX, serial=1)
    said = lab.says()
    assert said.outcome == "denied"
    assert said.reasons[0].startswith("pack: ke-law.yaml has serial 1, and this node has seen 2")
    (piece,) = lab.evidence()
    assert (piece.check, piece.kind) == (CHECK, "PolicyPack")
    assert piece.message == pack_text(LAX, serial=1).encode()
    lab.says()
    assert len(lab.evidence()) == 1, "asked again, it is kept once"
    lab.pack(LAX, serial=3)
    assert lab.says().granted


def test_a_pack_that_says_something_else_under_its_serial_is_refused_and_a_comment_more_is_not(lab: Lab) -> None:
    path = lab.pack(STRICT, serial=2)
    lab.says()
    path.write_text("# reviewed\n" + path.read_text())
    assert "pack" not in {finding.rule for finding in lab.says().findings}
    lab.pack(LAX, serial=2)
    assert lab.says().reasons[0].startswith("pack: ke-law.yaml says something else than the pack of serial 2")
    assert len(lab.evidence()) == 1


def test_a_pack_that_is_gone_is_missed_until_the_lab_itself_forgets_it(lab: Lab) -> None:
    path = lab.pack(STRICT)
    lab.says()
    path.rename(path.with_suffix(".off"))
    assert lab.says().reasons == (
        "pack: this node has seen the pack ke-law, serial 1, and it is gone; put it back, or concord-node policy forget ke-law "
        "(lab pack ke-law)",
    )
    with pytest.raises(NotFound, match="has seen no policy pack fr-law"):
        forget(lab.home, "fr-law")
    forget(lab.home, "ke-law")
    assert lab.says().granted


def test_the_memory_outlives_the_process_and_is_written_before_the_pack_decides(lab: Lab, tmp_path: Path) -> None:
    lab.pack(STRICT, serial=7)
    lab.policy()  # read, and nothing asked yet
    again = Lab.__new__(Lab)
    again.home, again.kept = Home(tmp_path), EvidenceFolder(lab.home.evidence)
    again.pack(LAX, serial=6)
    assert again.says().outcome == "denied"


def test_a_memory_that_was_altered_denies(lab: Lab) -> None:
    lab.pack(STRICT, serial=2)
    lab.says()
    lab.pack(LAX, serial=1)
    data = lab.home.pack_memory.read_bytes()
    for altered in (
        data.replace(b'"serial":2', b'"serial":1 '),
        b"",
        b"{}",
        b"[]",
        data[:-1],
        b"\xff" * 10,
        b"[" * 10_000,
    ):
        lab.home.pack_memory.write_bytes(altered)
        said = lab.says()
        assert said.outcome == "denied", altered
        assert "does not say any more which policy packs" in said.reasons[0]
    with pytest.raises(InvalidUsage, match="does not say any more"):
        forget(lab.home, "ke-law")


def test_who_only_looks_changes_no_memory_and_keeps_no_evidence(lab: Lab) -> None:
    lab.pack(STRICT, serial=2)
    assert evaluate(held_policy(lab.home, "policy.yaml", PARTIES.roll, None), question()).outcome == "denied"
    assert not lab.home.pack_memory.exists()


def test_a_pack_that_nobody_can_read_denies_and_hides_no_other_reason(lab: Lab) -> None:
    lab.pack(STRICT)
    (lab.home.packs / "b.yaml").write_text(pack_text({"maxKelvin": 3}, "b"))
    (lab.home.packs / "c.yaml").write_bytes(b"\xff\xfe")
    (lab.home.packs / "d.yaml").mkdir()
    (lab.home.packs / "e.yaml").write_text(pack_text({}, "e", "base"))
    (lab.home.packs / "notes.txt").write_text("not a pack")
    said = lab.says()
    assert said.outcome == "denied"
    assert [reason.split(" (")[0] for reason in said.reasons] == [
        "pack: b.yaml:8: rules.maxKelvin: update needed: rules.maxKelvin is an unknown field, no word of vocabulary 1.",
        "pack: it cannot be read: not UTF-8 text",
        "pack: it cannot be read: Is a directory",
        "pack: e.yaml: a base pack comes with the membership roll, by vote, and not as a file.",
        "rules.maxRounds: the job has 10 rounds, this lab allows 5",
    ]


# --------------------------------------------------------------------------------------------------------------- the base pack


def with_base(rules: Any, serial: int, name: str = "atlas") -> Charter:
    text = pack_text(rules, name, "base", serial).encode()
    return dataclasses.replace(Charter.standard(), base_policy=text)


def rolled(version: int, charter: Charter) -> Roll:
    return dataclasses.replace(PARTIES.roll, version=version, charter=charter)


def test_the_base_pack_of_the_roll_holds_beneath_the_lab_s_own_rules(lab: Lab) -> None:
    said = lab.says(rolled(2, with_base(STRICT, 1)))
    assert said.reasons == ("rules.maxRounds: the job has 10 rounds, this lab allows 5 (base pack atlas, line 8)",)


def test_an_older_base_pack_than_the_adopted_one_is_refused_whatever_it_is_called(lab: Lab) -> None:
    lab.says(rolled(3, with_base(STRICT, 2)))
    for older in (with_base(LAX, 1), with_base(LAX, 2), with_base(LAX, 9, "other"), Charter.standard()):
        said = lab.says(rolled(2, older))
        assert said.outcome == "denied"
        assert [finding.rule for finding in said.deciding] == ["pack"] * len(said.deciding)
    assert len(lab.evidence()) >= 3
    assert all(piece.signed for piece in lab.evidence()), "the roll that brought it is kept, too"
    assert "is older than the one of roll 3" in lab.says(rolled(2, with_base(LAX, 3))).reasons[0]


def test_the_members_change_and_take_back_their_base_pack_by_a_newer_roll(lab: Lab) -> None:
    lab.says(rolled(1, with_base(STRICT, 1)))
    assert lab.says(rolled(2, with_base(LAX, 2))).granted
    assert lab.says(rolled(3, with_base(LAX, 1, "another"))).granted
    assert lab.says(rolled(4, Charter.standard())).granted
    assert lab.says(rolled(5, with_base(STRICT, 1, "third"))).outcome == "denied"


@pytest.mark.parametrize(
    "text", [b"\xff", b"", b"a: [", pack_text({}, "x", "national").encode(), b"rules: {}"], ids=repr
)
def test_a_base_pack_that_this_node_cannot_follow_denies_every_job(lab: Lab, text: bytes) -> None:
    charter = dataclasses.replace(Charter.standard(), base_policy=text)
    said = lab.says(rolled(2, charter))
    assert said.outcome == "denied"
    assert said.reasons[0].startswith("pack: ")


def test_a_replayed_roll_brings_no_older_base_pack_back(lab: Lab) -> None:
    """Real rolls: adopted by vote, raised by vote; then the coordinator shows the first one again."""
    first = founded(charter=with_base(LAX, 1))
    second = first.amended(FOUR, "rules", charter=with_base(STRICT, 2))
    asked = question()
    held = [evaluate(lab.policy(federation.roll), asked).outcome for federation in (first, second, first)]
    assert held == ["granted", "denied", "denied"]
    assert lab.evidence()[0].signed == first.roll.envelope[: 64 << 10]
