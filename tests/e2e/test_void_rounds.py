"""A member that lies about its seed makes a certified attempt void: it is convicted by what it signed, and the job goes on
without it. All processes are real; the liar's is its own agent with another machine (tests/e2e/hostile/node.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from federation.identity.keys import SigningKey
from federation.secagg import proof
from federation.secagg.certificate import Ed25519Verifier
from tests.e2e.commands import said
from tests.e2e.runs import Runs
from tests.e2e.test_hostile_coordinator import model_of

ROOT = Path(__file__).resolve().parents[2]
ALL = ("ar", "be", "ch", "de")
DEADLINES = {"reconnectSeconds": 1, "readySeconds": 1, "phaseSeconds": 1, "formationSeconds": 5}


@pytest.fixture(scope="module")
def lying(four: Runs) -> Iterator[Runs]:
    """The node of ``de`` is replaced by one that lies, with the same home; its own comes back afterwards."""
    node = four.local.nodes["de"]
    own, environment = node.module, node.environment
    node.stop()
    node.module, node.environment = "tests.e2e.hostile.node", {"PYTHONPATH": str(ROOT)}
    try:
        node.start()
        node.wait_ready()
        yield four
    finally:
        node.stop()
        node.module, node.environment = own, environment
        node.start()
        node.wait_ready()


@pytest.mark.parametrize(
    ("lie", "check", "view"), [("dealer", "dealer", "blind"), ("false-seed", "reveal-seed", "sum")]
)
def test_a_liar_is_convicted_and_the_void_round_is_closed_without_it(
    lying: Runs, lie: str, check: str, view: str, tmp_path: Path
) -> None:
    """Round 2 is tried with all four, is void, and is closed by the other three; so is round 3. Every sum is that of its cohort."""
    job = lying.run(
        lying.document(
            lie,
            rounds=3,
            deadlines=DEADLINES,
            secureAggregation={"ringBits": 32},  # so that a wrong sum is not mistaken for rounding
            coordinatorView=view,
            finalEvaluation=False,
        )
    )
    assert job.state == "finished", (job.reason, job.lines)
    honest = ALL[:3]
    assert [item.cohort for item in job.rounds if item.phase == "closed"] == [ALL, honest, honest]
    assert any("void" in line for line in job.lines), job.lines
    found = lying.model(job.name)["vector"]
    np.testing.assert_allclose(found, model_of([ALL, honest, honest]), atol=1e-5)
    assert np.abs(found - model_of([ALL] * 3)).max() > 1e-3, "the comparison can fail"

    folder = tmp_path / "evidence"
    listed = said("concord-coordinator", "evidence", "--home", lying.local.coordinator.home, "--out", folder)
    rows = [line.split() for line in listed.out.splitlines() if job.digest.hex()[:12] in line]
    (name,) = [row[0] for row in rows if row[-3:] == ["de", check, "convicts"]]
    (file,) = folder.glob(f"{name}*.json")
    convicting = proof.read(file.read_bytes())
    convicting.check(Ed25519Verifier())
    key = SigningKey.from_pem((lying.local.nodes["de"].home / "keys" / "identity.key").read_bytes())
    assert convicting.identity_key == key.public
    for honest_name in honest:
        log = lying.local.nodes[honest_name].log.read_text()
        refused = [json.loads(line) for line in log.splitlines() if '"protocol.refused"' in line]
        assert not [line for line in refused if line.get("job") == job.digest.hex()[:12] and line["check"] == "proof"]
