"""The main job, whole: a signed document, consents by rule, rounds under secure aggregation, a verified release."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from coordinator.client.release_folder import verify_folder
from federation.errors import InvalidManifest, VerificationFailed, exit_code
from tests.e2e.commands import refused, said
from tests.e2e.runs import Runs, plain_average


def test_a_job_of_five_lines_becomes_a_verified_release(three: Runs) -> None:
    job = three.run(three.document("first", rounds=4))
    assert job.state == "finished", job.reason
    assert {consent.state for consent in job.consents} == {"granted"}
    closed = [item for item in job.rounds if item.phase == "closed"]
    assert [item.round for item in closed] == [1, 2, 3, 4, 5]
    assert all(item.cohort == ("ar", "be", "ch") for item in closed)
    assert all(item.loss is not None for item in closed)
    assert closed[-1].bytes_up < closed[0].bytes_up  # the last round only judges the final model
    release = three.release(job.name)
    report = verify_folder(release, (three.local.folder / "roll.json").read_bytes())
    assert report.ok
    config = json.loads((release / "config.json").read_text())
    assert config["job"] == {"name": job.name, "digest": job.digest.hex(), "lead": "lead"}
    assert config["cohorts"] == {str(number): ["ar", "be", "ch"] for number in range(1, 6)}


def test_a_stranger_is_told_each_thing_that_was_checked(three: Runs) -> None:
    """With nothing but the folder and a roll: no home, no network. What the log proves is among it."""
    job = three.run(three.document("walked"))
    release = three.release(job.name)
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "coordinator.client.main",
            "verify",
            release,
            "--roll",
            three.local.folder / "roll.json",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "CONCORD_HOME": "/nowhere"},
    ).stdout
    heading, *rows = shown.splitlines()
    assert heading.split() == ["RESULT", "CHECK", "DETAIL"]
    told = {row.split()[1]: row.split(None, 2)[2] for row in rows}
    assert list(told) == [
        "listing", "files", "roll", "manifest", "task", "roster", "consents", "rounds", "gates", "approval", "log",
        "revocations", "state", "model", "config", "card", "bom", "statement", "recall",
    ]  # fmt: skip
    assert {row.split()[0] for row in rows} == {"ok"}
    assert (
        "holds, with these very digests, the job's submission, 3 consents, 1 roster, the cohort and the model of"
        in told["log"]
    )
    config = json.loads((release / "config.json").read_text())
    assert len(config["log"]["witnesses"]) >= 2
    assert (
        f"{', '.join(config['log']['witnesses'])} cosigned that head, and 2 of the last roster's 3 must have"
        in told["log"]
    )
    assert "no member of a roster took its consent back" in told["revocations"]


def test_a_release_with_one_altered_byte_does_not_verify(three: Runs) -> None:
    job = three.run(three.document("altered"))
    release = three.release(job.name)
    model = release / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    command = [sys.executable, "-m", "coordinator.client.main", "verify", str(release)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == exit_code(VerificationFailed(""))
    assert "model.safetensors" in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_job_starts_from_a_snapshot_by_its_file_and_later_by_its_digest(three: Runs) -> None:
    start = np.linspace(-1, 1, 10, dtype=np.float32)
    save_file({"vector": start}, three.folder / "start.safetensors")
    digest = f"sha256:{hashlib.sha256((three.folder / 'start.safetensors').read_bytes()).hexdigest()}"
    wanted = start + sum((member + 1 - start) / 2 + 1 / 1024 for member in range(3)) / 3
    unknown = three.document("unknown", rounds=1, model={"snapshot": f"sha256:{'ab' * 32}"})
    refused(
        said("concord", "apply", "-f", unknown, "--home", three.local.lead_home),
        InvalidManifest,
        f"The coordinator has no snapshot sha256:{'ab' * 32}",
        "spec.model.snapshotFile",
    )
    for model in ({"snapshotFile": "start.safetensors"}, {"snapshot": digest}):
        job = three.run(three.document("warm", rounds=1, model=model))
        assert job.state == "finished", job.reason
        assert job.signed_document()["spec"]["model"]["snapshot"] == digest
        np.testing.assert_allclose(three.model(job.name)["vector"], wanted, atol=2.0**-11)


@pytest.mark.parametrize("ring", [16, 32])
def test_the_joint_model_is_the_plain_average_of_the_members(three: Runs, ring: int) -> None:
    job = three.run(three.document("average", rounds=5, secureAggregation={"ringBits": ring}))
    assert job.state == "finished", job.reason
    found = three.model(job.name)["vector"]
    wanted = plain_average(5, 3)
    # Rounding is random: at most one level for each member and round.
    np.testing.assert_allclose(found, wanted, atol=5 * 2.0**-11 if ring == 16 else 1e-5)
