"""What a job says to members' policies: all of it may be left out, is signed when it is there, and has bounds."""

import pytest

from federation.errors import InvalidManifest
from federation.manifest.document import load_job
from federation.manifest.goals import CODES, covers
from tests.unit.identity.parties import JOB, found

PARTIES = found("ch", "fr", "ke")
SAID = """  purposes: [early-warning, public-health]
  purposeCodes: [sdg:3, sdg:13.1]
  legalBasis: public-task
  retentionDays: 90
  compute: {trainingExaflop: 5, modelParameters: 1200000, gpuHours: 0.5, energyKwh: 2, bytesPerDay: 2G}
"""


def test_five_lines_say_nothing_of_it_and_sign_nothing_of_it() -> None:
    signed = PARTIES.job().document["spec"]
    assert not {"purposes", "purposeCodes", "legalBasis", "compute", "retentionDays", "codeSignatures"} & set(signed)
    assert not {"audience", "licence"} & set(signed["release"])
    assert "digest" not in signed["runtime"]


def test_what_a_job_says_is_what_members_read() -> None:
    spec = PARTIES.job(JOB + SAID).spec
    assert spec.purposes == ["early-warning", "public-health"]
    assert spec.purpose_codes == ["sdg:3", "sdg:13.1"]
    assert (spec.legal_basis, spec.retention_days) == ("public-task", 90)
    assert spec.compute is not None
    assert (spec.compute.training_exaflop, spec.compute.model_parameters) == (5.0, 1_200_000)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("purposes: [Public Health]", "spec.purposes[0]"),
        ("purposeCodes: [sdg:18]", "spec.purposeCodes[0]"),
        ("purposeCodes: [sdg:3.14]", "spec.purposeCodes[0]"),
        ("purposeCodes: [sdg:17.a]", "spec.purposeCodes[0]"),
        ("purposeCodes: [sdg:3, sdg:3]", "spec.purposeCodes"),
        ("legalBasis: because", "spec.legalBasis"),
        ("retentionDays: -1", "spec.retentionDays"),
        ("compute: {trainingExaflop: -1}", "spec.compute.trainingExaflop"),
        ("compute: {modelParameters: 0}", "spec.compute.modelParameters"),
        ("compute: {gpuHours: many}", "spec.compute.gpuHours"),
        ("compute: {bytesPerDay: 2GB}", "spec.compute.bytesPerDay"),
        ("compute: {flops: 1}", "spec.compute.flops"),
        ("release: {audience: friends}", "spec.release.audience"),
        ("release: {licence: CC BY}", "spec.release.licence"),
        ("runtime: {digest: abc}", "spec.runtime.digest"),
        ("codeSignatures: [{key: ab, signature: cd}]", "spec.codeSignatures[0].key"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_its_field(line: str, field: str) -> None:
    with pytest.raises(InvalidManifest) as raised:
        load_job(f"{JOB}  {line}\n", "job.yaml")
    assert raised.value.field == field
    assert raised.value.line == len(JOB.splitlines()) + 1


def test_there_are_17_goals_with_169_targets() -> None:
    goals = {code for code in CODES if "." not in code}
    assert len(goals) == 17
    assert len(CODES - goals) == 169
    assert all(code.partition(".")[0] in goals for code in CODES)


def test_a_goal_covers_its_targets_and_no_other_goal() -> None:
    assert covers("sdg:3", "sdg:3")
    assert covers("sdg:3", "sdg:3.4")
    assert not covers("sdg:3.4", "sdg:3")
    assert not covers("sdg:1", "sdg:13.1")
    assert {code for code in CODES if covers("sdg:1", code)} == {
        "sdg:1", "sdg:1.1", "sdg:1.2", "sdg:1.3", "sdg:1.4", "sdg:1.5", "sdg:1.a", "sdg:1.b",
    }  # fmt: skip
