"""The card tells what the job really has: groups as sums, what of memorisation was measured, how long each consent stood."""

import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from federation.identity.consent import BY_RULE, Binding, Outputs, Reserved
from federation.releases.verify import verify
from tests.unit.identity.parties import NOW
from tests.unit.releases.released import JOB, Files, trained, whole

FIGURES = "evaluate: [accuracy, hits/0, hits/1, seen/0, seen/1, exposure, in/0, in/1, out/0, out/1]"
GROUPS = JOB.replace("evaluate: [accuracy]", FIGURES)
GATED = (
    GROUPS + "  gates:\n"
    "    worstGroup: [{figures: hits, per: seen, atLeast: 0.1}]\n"
    "    canaries: {figure: exposure, atMost: 3}\n"
    "    membership: {members: in, others: out, atMost: 0.7}\n"
)
PRIVACY = (
    "  privacy: {unit: record, mechanism: dp_sgd, epsilon: 3, delta: 1e-5, sampleRate: 0.05, recordClip: 1}\n"
    "  localSteps: 20\n"
)
NOISY = JOB.replace("  metrics: {train: [loss], evaluate: [accuracy]}\n", PRIVACY)


@cache
def released(text: str = JOB) -> Files:
    with TemporaryDirectory() as folder:
        return whole(trained(text=text).release(Path(folder)))


def card(files: Files) -> str:
    return files["README.md"].decode()


def memorisation(files: Files) -> str:
    (model,) = [json.loads(files["bom.cdx.json"])["metadata"]["component"]]
    (each,) = model["modelCard"]["considerations"]["ethicalConsiderations"]
    return str(each["mitigationStrategy"])


def test_groups_are_sums_over_the_cohort_with_the_ratio_that_a_gate_judges() -> None:
    text = card(released(GATED))
    assert "Of the final model: sums over the 3 members of the last cohort together" in text
    assert "| group | hits | in | out | seen | hits / seen |" in text
    assert "| 0 | 0.25 | 0.5 | 0.25 | 0.5 | 0.5 |" in text
    assert "| 1 | 0.5 | 0.5 | 0.75 | 0.5 | 1 |" in text
    assert "A group that one member alone holds is that member's own figure" in text


def test_without_a_final_evaluation_the_figures_are_of_the_model_before() -> None:
    text = card(released(GROUPS.replace("rounds: 2", "rounds: 2\n  finalEvaluation: false")))
    assert "Of the model before round 2: sums over" in text
    assert "Of the final model" not in text


def test_what_of_memorisation_was_measured_and_what_was_not() -> None:
    gated, plain = card(released(GATED)), card(released())
    assert "(1.44 where nothing is memorised): 1.5, at most 3 by the job's gate." in gated
    assert "by their loss (0.5 is a guess): 0.625, at most 0.7 by the job's gate." in gated
    assert plain.count("the job has no such gate, and nothing was measured.") == 2
    assert memorisation(released()) == "no differential privacy; no gate measures it"
    measured = "gates: canaries: 1.5 <= 3; membership: 0.625 <= 0.7"
    assert memorisation(released(GATED)) == f"no differential privacy; {measured}"


def test_it_tells_until_when_each_consent_stood() -> None:
    world = trained()
    with TemporaryDirectory() as folder:
        consents = {name: world.consent(name) for name in world.names}
        ended = {
            "m2": world.revocation("m2", consents["m2"], issued=NOW + timedelta(hours=2)),
            "m3": world.revocation("m3", consents["m3"], cause="expired", by="policy", issued=NOW + timedelta(days=1)),
        }
        files = whole(world.release(Path(folder), consents=consents, revocations=ended))
    report = verify(files)
    assert report.ok, report
    assert "| FR | digits | 1 | 2026-01-31 to 2026-02-01 |" in card(files)
    assert "| DE | digits | 2 | from 2026-01-31, taken back on 2026-01-31 14:00 UTC |" in card(files)
    assert "| KE | digits | 4 | from 2026-01-31, ended on 2026-02-01 12:00 UTC |" in card(files)
    members = json.loads(files["config.json"])["members"]
    assert members["m1"]["consent"]["ended"] is None
    assert members["m2"]["consent"]["ended"] == {"cause": "person", "at": "2026-01-31T14:00:00Z"}
    (told,) = [check.detail for check in report.checks if check.name == "revocations"]
    assert "m2 (consent revoked by the lab (officer) at 2026-01-31T14:00:00Z) after the last round" in told
    assert "m3 (consent expired at 2026-02-01T12:00:00Z) after the last round" in told


def test_a_revocation_after_the_last_round_is_told_and_none_is_said_to_be_none() -> None:
    (told,) = [check.detail for check in verify(released()).checks if check.name == "revocations"]
    assert "of which none is left out, no member of a roster took its consent back, and nothing ended the job" in told
    assert "A revocation after that head, and one that was kept out of the log, is not in these files." in told


def test_what_consents_reserved_of_budgets_stands_beside_the_promise() -> None:
    world = trained(text=NOISY)
    binds = Binding(
        (("digits", bytes(32)),),
        bytes(32),
        world.parties.roll.digest,
        (Reserved("digits", "dp_sgd 1.1", 40),),
        Outputs("sum", "", ()),
        b"",
    )
    with TemporaryDirectory() as folder:
        consents = {name: world.consent(name, binds=binds, given=BY_RULE) for name in world.names}
        files = whole(world.release(Path(folder), consents=consents))
    assert "at delta 1e-05 over all rounds, for each record (unit of privacy), if the task keeps its promise" in card(
        files
    )
    assert "| m1 | digits | dp\\_sgd 1.1 | 40 |" in card(files)
