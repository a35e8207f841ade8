"""`concord-node policy check|explain|diff|test|forget`, as a lab's people type them: what is printed, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent.main import main
from tests.unit.agent.homes import Site, federation_of, joined_by_hand
from tests.unit.policy.asked import WIDE, pack_text, policy_text

Typed = Callable[..., tuple[int, str, str]]
JOB = """apiVersion: concord/v1
kind: TrainingJob
metadata: {name: tiny}
spec:
  app: ./nowhere
  dataSet: digits
"""
CASES = """apiVersion: concord/v1
kind: PolicyCases
federation: {members: {ch: CH, fr: FR, ke: KE}, leads: {lead: ch, eve: ke}, here: fr}
dataSets: {digits: [scans]}
cases:
  - {name: usual, expect: granted}
  - {name: a stranger, lead: eve, expect: denied, because: [rules.leads]}
"""


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["concord-node", "policy", *map(str, words)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    site = Site(tmp_path, federation_of(("ch", "fr", "ke")))
    (tmp_path / "data").mkdir()
    joined_by_hand(site, policy_text(WIDE, sandbox="optional"), tmp_path / "data")
    return site.home.root


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_check_says_granted_with_0_and_why(typed: Typed, home: Path, job: Path) -> None:
    code, out, err = typed("check", job, "--home", home)
    assert (code, err) == (0, "")
    assert "job       tiny, as if lead had submitted it" in out
    assert "nowhere is not here: rules about the code see none" in out
    assert "verdict   granted" in out
    assert "lead lead is allowed" in out


def test_check_says_denied_with_4_and_every_reason_with_its_file_and_line(typed: Typed, home: Path, job: Path) -> None:
    (home / "policy.yaml").write_text(policy_text({**WIDE, "leads": ["eve"], "maxRounds": 5}, sandbox="optional"))
    (home / "policy.d").mkdir()
    (home / "policy.d" / "ke.yaml").write_text(pack_text({"coordinatorView": ["sum"], "maxRounds": 6}))
    code, out, _ = typed("check", job, "--home", home)
    assert code == 4
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "verdict denied" in lines
    assert "policy.yaml:4 rules.leads: lead lead is not allowed" in lines
    assert "policy.yaml:21 rules.maxRounds: the job has 10 rounds, this lab allows 5" in lines
    assert "ke-law:8 rules.coordinatorView: coordinatorView blind is not allowed" in lines
    assert "ke-law:10 rules.maxRounds: the job has 10 rounds, this lab allows 6" in lines
    assert not (home / "policy-packs.json").exists(), "who only looks leaves the memory as it is"


def test_check_asks_of_another_time_and_lead_and_says_who_decides(typed: Typed, home: Path, job: Path) -> None:
    rules = {**WIDE, "askAbove": {"rounds": 5}, "deputies": ["dr-wanjiru"]}
    (home / "policy.yaml").write_text(policy_text(rules, sandbox="optional", hours="20:00-06:00"))
    code, out, _ = typed("check", job, "--home", home, "--at", "2027-01-31 23:00")
    assert code == 4
    assert "verdict   a person must decide" in out
    assert "decides   dr-wanjiru" in out
    code, out, _ = typed("check", job, "--home", home, "--at", "2027-01-31 12:00")
    assert "it is 12:00" in out
    code, _, err = typed("check", job, "--home", home, "--at", "noon")
    assert (code, "--at noon is no local time" in err) == (2, True)
    code, _, err = typed("check", job, "--home", home, "--lead", "eve")
    assert (code, "No lead eve is on the roll" in err) == (3, True)


def test_a_verdict_is_printed_kept_and_read_back(typed: Typed, home: Path, job: Path, tmp_path: Path) -> None:
    kept = tmp_path / "verdict.json"
    code, out, _ = typed("check", job, "--home", home, "-o", "json", "--out", kept)
    assert code == 0
    assert json.loads(out) == json.loads(kept.read_bytes())
    code, out, _ = typed("explain", kept)
    assert code == 0
    assert out.startswith("granted: the job ")
    assert "allows    policy.yaml: lead lead is allowed" in out
    assert "rules.leads: research leads whose jobs may run; absent: none; compared with who signed the job" in out
    for text in ("", "[]", "{}", '{"format":"concord/verdict/v1"}', "[" * 5000):
        kept.write_text(text)
        code, _, err = typed("explain", kept)
        assert (code, "is no verdict" in err) == (5, True)


def test_explain_says_each_rule_in_a_sentence_with_its_line_and_what_is_left_to_defaults(
    typed: Typed, home: Path
) -> None:
    (home / "policy.d").mkdir()
    (home / "policy.d" / "ke.yaml").write_text(pack_text({"neverTags": ["children"]}))
    (home / "policy.d" / "new.yaml").write_text(pack_text({"maxKelvin": 3}, "new"))
    code, out, _ = typed("explain", "--home", home)
    assert code == 0
    assert (
        "new.yaml: NOT FOLLOWED, and until it is every job is denied: new.yaml:8: rules.maxKelvin: update needed" in out
    )
    assert "policy.yaml (the lab's own rules)\n    line 4    Only these research leads' jobs may run: lead." in out
    assert "    default   Consent is given at any time of day." in out
    assert "ke-law (national pack, serial 1)\n    line 8    A data set that is tagged children is never used." in out


def test_explain_says_what_a_word_means_who_keeps_it_and_where_it_stands(typed: Typed, home: Path) -> None:
    code, out, _ = typed("explain", "rules.maxEnergyKwh")
    assert code == 0
    assert "compared with: the job's spec.compute.energyKwh" in out
    assert "declared: the node compares with what the lead states and signs, and cannot see whether that is true" in out
    assert "policy.yaml" not in out
    code, out, _ = typed("explain", "leads", "--home", home)
    assert "policy.yaml (the lab's own rules), line 4\n    Only these research leads' jobs may run: lead." in out
    code, _, err = typed("explain", "maxKelvin")
    assert (code, "There is no word maxKelvin" in err) == (3, True)
    code, _, err = typed("explain")
    assert (code, "Say which node's rules" in err) == (2, True)


def test_diff_says_in_words_what_is_narrower_and_wider(typed: Typed, tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(policy_text({**WIDE, "maxRounds": 5}))
    new.write_text(policy_text({**WIDE, "maxRounds": 9, "minimumCohort": 4}))
    code, out, _ = typed("diff", old, new)
    assert code == 0
    assert out.splitlines() == [
        "The new one is narrower in some ways, and wider in others.",
        "",
        "rules.minimumCohort: narrower",
        "    was  A job must not run with fewer than 3 members.",
        "    now  A job must not run with fewer than 4 members.",
        "",
        "rules.maxRounds: wider",
        "    was  A job must not have more than 5 rounds.",
        "    now  A job must not have more than 9 rounds.",
    ]
    assert typed("diff", old, old)[1] == "The two let the same jobs pass.\n"
    assert typed("diff", old, tmp_path / "none.yaml")[0] == 3


def test_the_examples_beside_a_policy_hold_or_are_named(typed: Typed, home: Path) -> None:
    (home / "policy.cases.yaml").write_text(CASES)
    code, out, _ = typed("test", "--home", home)
    assert (code, out.splitlines()[-1]) == (0, "2 of 2 cases hold")
    (home / "policy.yaml").write_text(policy_text({**WIDE, "leads": ["lead", "eve"]}, sandbox="optional"))
    code, out, _ = typed("test", "--home", home)
    assert code == 4
    assert "FAILED  a stranger: granted\n        expected denied" in out
    (home / "policy.yaml").write_text(policy_text({**WIDE, "maxRounds": 5}))
    code, out, _ = typed("test", "--policy", home / "policy.yaml")
    assert code == 4
    assert "FAILED  usual: denied" in out
    assert "expected because of rules.leads, and it is because of rules.leads, rules.maxRounds" in out


@pytest.mark.parametrize(
    ("change", "told", "code"),
    [
        (("here: fr", "here: us"), "us is neither a member nor a lead", 5),
        (("lead: eve", "lead: mallory"), "mallory is neither a member nor a lead", 5),
        (("expect: granted", "expect: maybe"), "cases[0].expect", 5),
        (("name: usual", "title: odd, name: usual"), "unknown field", 5),
        (("expect: granted", "at: noon, expect: granted"), "should be a local time", 5),
        (("expect: granted", "spec: {rounds: 0}, expect: granted"), "0 of 1", 4),
        (("[scans]", "1"), "dataSets.digits", 5),
    ],
)
def test_cases_that_are_none_are_refused(
    typed: Typed, home: Path, change: tuple[str, str], told: str, code: int
) -> None:
    text = CASES.replace(*change)
    if code == 4:
        text = text[: text.index("  - {name: a stranger")]
    (home / "policy.cases.yaml").write_text(text)
    found, out, err = typed("test", "--home", home)
    assert (found, told in out + err) == (code, True), out + err


def test_runtime_prints_one_digest_the_same_each_time(typed: Typed) -> None:
    code, out, _ = typed("runtime")
    assert (code, len(out.strip())) == (0, 64)
    assert typed("runtime")[1] == out


def test_forget_takes_a_pack_out_of_the_memory(typed: Typed, home: Path) -> None:
    code, _, err = typed("forget", "ke-law", "--home", home)
    assert (code, "has seen no policy pack ke-law" in err) == (3, True)
