"""Gates: from a manifest and the words that members signed, one verdict, the same everywhere."""

from dataclasses import replace
from fractions import Fraction
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import InvalidManifest, PolicyDenied, ProtocolViolation, VerificationFailed
from federation.manifest.document import load_job
from federation.manifest.gates import Gates
from federation.releases.gates import judge, withheld
from federation.releases.verify import verify
from federation.secagg import wire
from federation.secagg.header import ONE
from federation.v1 import rounds_pb2
from models import evaluation
from node_agent.rounds.releasing import check_release
from tests.unit.releases.released import JOB, Training, founded, trained

TERMS = founded().manifest(JOB).terms()
GATED = JOB.replace(
    "  coordinatorView: sum",
    "  coordinatorView: sum\n  gates: {quality: [{figure: accuracy, atLeast: %s}]}",
)


def verdicts(gates: dict[str, Any], figures: dict[str, float], *, absent: tuple[str, ...] = ()) -> Any:
    """``figures``: means over the cohort, by their names in metrics.evaluate."""
    names = sorted({*figures, *absent})
    words = [word for name in names for word in ((round(figures[name] * ONE), ONE) if name in figures else (0, 0))]
    terms = replace(TERMS, metrics=tuple(f"evaluate/{name}" for name in names))
    return judge(Gates.model_validate(gates), words, terms)


def test_quality_at_least_and_at_most() -> None:
    gates = {"quality": [{"figure": "acc", "atLeast": 0.95}, {"figure": "loss", "atMost": 0.5}]}
    good = verdicts(gates, {"acc": 0.96, "loss": 0.25})
    assert [verdict.passed for verdict in good] == [True, True]
    assert withheld(good) == ""
    bad = verdicts(gates, {"acc": 0.91, "loss": 0.25})
    assert withheld(bad) == "release withheld: gate quality acc: 0.91 < 0.95"


def test_the_bound_itself_passes_and_the_next_word_below_it_does_not() -> None:
    gates, terms = Gates.model_validate({"quality": [{"figure": "acc", "atLeast": 0.5}]}), ("evaluate/acc",)
    at = replace(TERMS, metrics=terms)
    assert judge(gates, (ONE // 2, ONE), at)[0].passed
    (missed,) = judge(gates, (ONE // 2 - 1, ONE), at)
    assert not missed.passed
    assert "0.5 < 0.5" not in missed.words, "what differs is shown to differ"


def test_the_worst_group_counts_by_its_hits_over_its_examples() -> None:
    gates = {"worstGroup": [{"figures": "hits", "per": "seen", "atLeast": 0.8}]}
    figures = {"hits/0": 0.45, "seen/0": 0.5, "hits/1": 0.1, "seen/1": 0.2, "hits/2": 0.27, "seen/2": 0.3}
    (verdict,) = verdicts(gates, figures)
    assert not verdict.passed
    assert verdict.value == pytest.approx(0.5)
    assert verdict.words == "worst group hits: 0.5 < 0.8 (group 1)"
    (better,) = verdicts(gates, figures | {"hits/1": 0.18})
    assert better.passed


def test_groups_as_figures_of_their_own_and_errors_whose_highest_counts() -> None:
    assert verdicts({"worstGroup": [{"figures": "acc", "atLeast": 0.5}]}, {"acc/a": 0.7, "acc/b": 0.6})[0].passed
    (verdict,) = verdicts({"worstGroup": [{"figures": "err", "atMost": 0.2}]}, {"err/a": 0.1, "err/b": 0.3})
    assert (verdict.passed, verdict.where) == (False, "group b")


def test_what_cannot_be_judged_has_failed() -> None:
    gates: dict[str, Any] = {
        "quality": [{"figure": "acc", "atLeast": -1}],
        "worstGroup": [{"figures": "hits", "per": "seen", "atLeast": 0}],
        "calibration": {"bins": "gap", "atMost": 1},
        "canaries": {"figure": "exposure", "atMost": 64},
        "membership": {"members": "in", "others": "out", "atMost": 1},
    }
    empty = {f"{family}/{group}": 0.0 for family in ("hits", "seen", "in", "out") for group in (0, 1)}
    found = verdicts(gates, empty, absent=("acc", "gap/0", "gap/1", "exposure"))
    assert [verdict.passed for verdict in found] == [False] * 5
    assert "no member has the figure acc" in withheld(found)
    assert "no examples of group 0" in withheld(found)


def test_calibration_adds_the_gaps_of_all_bins() -> None:
    gates = {"calibration": {"bins": "gap", "atMost": 0.055}}
    assert verdicts(gates, {"gap/0": 0.02, "gap/1": -0.03})[0].passed
    assert not verdicts(gates, {"gap/0": 0.02, "gap/1": -0.04})[0].passed


def test_canaries_and_the_attack_by_loss() -> None:
    canaries = {"canaries": {"figure": "exposure", "atMost": 3}}
    assert verdicts(canaries, {"exposure": 1.4})[0].passed
    assert not verdicts(canaries, {"exposure": 5.0})[0].passed
    attack = {"membership": {"members": "in", "others": "out", "atMost": 0.6}}
    alike = {"in/0": 0.5, "in/1": 0.5, "out/0": 0.5, "out/1": 0.5}
    (chance,) = verdicts(attack, alike)
    assert (chance.passed, chance.value) == (True, 0.5)
    told = {"in/0": 1.0, "in/1": 0.0, "out/0": 0.0, "out/1": 1.0}
    assert verdicts(attack, told)[0].value == 1.0
    other_way = {"in/0": 0.0, "in/1": 1.0, "out/0": 1.0, "out/1": 0.0}
    assert verdicts(attack, other_way)[0].value == 1.0, "an attacker reads it the other way round"


losses = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=30)


@given(losses, losses)
def test_the_attack_from_bins_is_the_attack_from_the_losses_when_each_has_a_bin(
    members: list[float], others: list[float]
) -> None:
    edges = sorted({*members, *others})
    figures = evaluation.loss_shares(np.array(members), edges, "in")
    figures |= evaluation.loss_shares(np.array(others), edges, "out")
    gates = {"membership": {"members": "in", "others": "out", "atMost": 1}}
    # Shares are exact here, so that nothing is lost on the way: the header's fixed point is another test's.
    names = sorted(figures)
    pairs = [(Fraction(figures[name]).limit_denominator(1000), name) for name in names]
    words = [word for share, _name in pairs for word in (share.numerator, share.denominator)]
    (verdict,) = judge(
        Gates.model_validate(gates), words, replace(TERMS, metrics=tuple(f"evaluate/{name}" for name in names))
    )
    area = np.mean([(a < b) + (a == b) / 2 for a in members for b in others])
    assert verdict.value == pytest.approx(max(area, 1 - area))


# ------------------------------------------------------------------------------------------------- what apps report


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 39)
)
def test_two_members_shares_weighted_by_examples_are_the_shares_of_all(
    examples: list[tuple[int, bool, float]], cut: int
) -> None:
    def figures(part: list[tuple[int, bool, float]]) -> dict[str, float]:
        hits, confidence = np.array([each[1] for each in part], dtype=bool), np.array([each[2] for each in part])
        return evaluation.group_shares(hits, [each[0] for each in part], range(4)) | evaluation.calibration_gaps(
            confidence, hits
        )

    parts = [part for part in (examples[:cut], examples[cut:]) if part]
    whole = figures(examples)
    for name in whole:
        joint = sum(len(part) * figures(part)[name] for part in parts) / len(examples)
        assert joint == pytest.approx(whole[name], abs=1e-12)


def test_exposure_of_a_canary_that_is_known_and_of_one_that_is_not() -> None:
    reference = np.linspace(1, 2, 63)
    assert evaluation.exposure(np.array([0.1]), reference) == log2(64)
    assert evaluation.exposure(np.array([9.0]), reference) == 0
    draw = np.random.default_rng(1)
    chance = np.mean([evaluation.exposure(draw.random(4), draw.random(63)) for _ in range(400)])
    assert chance == pytest.approx(1.44, abs=0.1), "what documents call the value of a model that memorises nothing"


def test_the_digits_app_holds_a_copy_of_the_module() -> None:
    root = Path(evaluation.__file__).parent
    assert (root / "evaluation.py").read_bytes() == (
        root / "digits" / "app" / "digits_app" / "evaluation.py"
    ).read_bytes()


# ----------------------------------------------------------------------------------------------------- in a manifest


@pytest.mark.parametrize(
    ("gates", "more", "message"),
    [
        ({"quality": [{"figure": "secret", "atLeast": 1}]}, {}, "does not declare"),
        ({"quality": [{"figure": "acc"}]}, {}, "one of atLeast and atMost"),
        ({"quality": [{"figure": "acc", "atLeast": 0, "atMost": 1}]}, {}, "one of atLeast and atMost"),
        ({"quality": [{"figure": "acc", "atLeast": 0}]}, {"finalEvaluation": False}, "final evaluation"),
        ({"quality": [{"figure": "acc", "atLeast": 0}]}, {"evaluate": False}, "final evaluation"),
        ({"worstGroup": [{"figures": "hits", "atLeast": 0}]}, {}, "the family hits"),
        ({"worstGroup": [{"figures": "in", "per": "gap", "atLeast": 0}]}, {}, "same groups"),
        ({"calibration": {"bins": "in", "atMost": 2}}, {}, "less than or equal to 1"),
        ({"membership": {"members": "in", "others": "out", "atMost": 0.6}}, {}, "same groups"),
        ({"robustness": []}, {}, "unknown field"),
        (
            {"quality": [{"figure": "acc", "atLeast": 0}]},
            {"privacy": {"mechanism": "skellam", "unit": "member", "delta": 1e-6, "epsilon": 8}},
            "a job with privacy has none",
        ),
    ],
)
def test_a_gate_that_could_not_be_judged_is_refused_when_the_job_is_read(
    gates: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    spec = {"app": "./tiny", "dataSet": "digits", "metrics": {"evaluate": ["acc", "in/0", "in/1", "gap/0"]}, **more}
    document = {
        "apiVersion": "concord/v1",
        "kind": "TrainingJob",
        "metadata": {"name": "x"},
        "spec": {**spec, "gates": gates},
    }
    with pytest.raises(InvalidManifest, match=message):
        load_job(yaml.safe_dump(document), "job.yaml")


def test_the_job_of_the_digits_has_all_its_gates_in_order() -> None:
    job = load_job((Path(evaluation.__file__).parent / "digits" / "job.yaml").read_text(), "job.yaml")
    gates = job.spec.gates
    assert gates is not None
    assert gates.quality
    assert gates.worst_group
    assert gates.calibration
    assert gates.canaries


# ---------------------------------------------------------------------------------------------------------- a release


def test_a_release_says_which_gates_it_passed(tmp_path: Path) -> None:
    report = verify(trained(text=GATED % 0.1).release(tmp_path))
    assert report.ok
    (gates,) = [check for check in report.checks if check.name == "gates"]
    assert gates.detail.startswith("1 gates passed: quality accuracy: ")


def asked_of(world: Training, name: str, **changes: Any) -> None:
    """A coordinator asks this member for its final model, with what q members signed of the last round."""
    receipts = changes.get("receipts", world.certified[world.terms.last_round].receipts)
    proto = rounds_pb2.ProvideRelease(
        state_digest=changes.get("digest", world.final.digest()), receipts=[wire.to_proto(each) for each in receipts]
    )
    check_release(world.job, world.labs[name].machine, proto, world.parties.roll)


def test_a_member_gives_its_model_when_the_gates_have_passed() -> None:
    for name in trained(text=GATED % 0.1).names:
        asked_of(trained(text=GATED % 0.1), name)


def test_a_member_keeps_its_model_when_a_gate_failed_whatever_the_coordinator_says() -> None:
    world = trained(text=GATED % 100)
    for name in world.names:
        with pytest.raises(PolicyDenied, match="gate quality accuracy"):
            asked_of(world, name)


def test_a_coordinator_shows_receipts_of_a_better_job() -> None:
    world, better = trained(text=GATED % 100), trained(text=GATED % 0.1)
    receipts = world.certified[world.terms.last_round].receipts
    for shown in (
        better.certified[3].receipts,
        (),
        receipts[:1],
        world.certified[2].receipts,
        tuple(replace(receipt, figures=(ONE << 10,) * len(receipt.figures)) for receipt in receipts),
    ):
        with pytest.raises(ProtocolViolation):
            asked_of(world, "m1", receipts=shown)
    with pytest.raises(ProtocolViolation, match="another final state"):
        asked_of(world, "m1", digest=bytes(32))


def test_a_release_whose_gate_failed_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"gate quality accuracy: .* < 100"):
        trained(text=GATED % 100).release(tmp_path)
