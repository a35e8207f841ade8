"""`concord code digest` and `sign`: what a code signer prints is what members' policies ask for, for this code and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from federation.errors import InvalidManifest
from federation.policy.rules import evaluate
from tests.unit.client.typed import concord
from tests.unit.identity.parties import APP, JOB
from tests.unit.policy.asked import PARTIES, WIDE, policy, question


@pytest.fixture
def job(tmp_path: Path) -> Path:
    for name, content in APP.items():
        path = tmp_path / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def test_a_job_whose_code_a_named_signer_signed_passes_and_an_altered_one_does_not(job: Path, tmp_path: Path) -> None:
    made = concord(
        *("member", "init", "--id", "ke", "--name", "Kenya", "--jurisdiction", "KE", "--home", tmp_path / "officer"),
        *("--out", tmp_path / "ke.json"),
    )
    assert made.code == 0, made.err
    signed = concord("code", "sign", "-f", job, "--home", tmp_path / "officer")
    assert signed.code == 0, signed.err
    key = re.search(r"key: '([0-9a-f]{64})'", signed.out)
    assert key
    lines = "".join(f"  {line}\n" for line in signed.out.splitlines())
    rules = policy({**WIDE, "codeSigners": [key[1]]})
    assert evaluate(rules, question(JOB + lines)).granted
    assert evaluate(rules, question()).outcome == "denied"
    altered = PARTIES.job(JOB + lines, {**APP, "tiny/client_app.py": b"app = 1\n"})
    assert evaluate(rules, question(manifest=altered)).outcome == "denied"


def test_the_digest_is_the_one_that_the_manifest_names(job: Path) -> None:
    said = concord("code", "digest", "-f", job)
    assert said.out.strip() == PARTIES.job().bundle_digest.hex()
    assert evaluate(policy({**WIDE, "bundles": [said.out.strip()]}), question()).granted


def test_without_the_code_nothing_is_signed(job: Path, tmp_path: Path) -> None:
    for path in sorted((tmp_path / "tiny").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "tiny").rmdir()
    said = concord("code", "digest", "-f", job)
    assert said.code == 5
    assert "does not exist" in said.err
    assert InvalidManifest.code in said.err
