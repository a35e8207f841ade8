"""A release is made of what the members signed: it verifies, is the same bytes each time, and is not made of less."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from federation.audit.checkpoint import log_key
from federation.errors import FederationError, VerificationFailed
from federation.governance.history import extended
from federation.identity.envelope import seal
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.roll import draft_roll
from federation.releases.listing import FIXED, LISTING, MODEL, OPEN, STATE
from federation.releases.verify import verify, verify_folder
from federation.weights.state import SCALES, WEIGHTS, write_state
from federation.weights.tensors import write_arrays
from tests.unit.releases.released import JOB, LOG_KEY, LOGGED, Training, founded, trained, whole


def test_what_is_built_verifies(tmp_path: Path) -> None:
    world = trained()
    files = world.release(tmp_path)
    for given in (files, whole(files)):
        report = verify(given, world.parties.roll.envelope)
        assert report.ok, report
    members = {f"consents/{name}.json" for name in world.names}
    assert set(files) == {*FIXED, *OPEN, LISTING, *members, "rounds/1.json", "rounds/2.json", "rounds/3.json"}


def test_without_a_roll_of_ones_own_the_report_says_where_trust_starts(tmp_path: Path) -> None:
    world = trained()
    report = verify(world.release(tmp_path))
    assert report.ok
    (roll,) = [check for check in report.checks if check.name == "roll"]
    assert f"trust starts at roll digest {world.parties.roll.digest.hex()}" in roll.detail


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    world = trained()
    assert whole(world.release(tmp_path)) == whole(world.release(tmp_path))


def test_the_model_opens_with_anybodys_tools(tmp_path: Path) -> None:
    world = trained()
    data = whole(world.release(tmp_path))[MODEL]
    loaded = safetensors.numpy.load(data)
    assert set(loaded) == set(world.final.arrays)
    for name, array in world.final.arrays.items():
        assert np.array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_config_says_what_was_trained_by_whom_and_how_it_went(tmp_path: Path) -> None:
    world = trained()
    config = json.loads(whole(world.release(tmp_path))["config.json"])
    assert config["job"] == {"name": "digits", "digest": world.job.digest.hex(), "lead": "lead"}
    assert config["members"]["m2"] == {
        "node": "node",
        "jurisdiction": "DE",
        "dataSet": "digits",
        "weight": 2,
        "consent": {"issued": "2026-01-31T12:00:00Z", "expires": "2026-02-01T12:00:00Z", "ended": None},
    }
    assert config["log"] == {
        "key": str(log_key("health", LOG_KEY.public)),
        "first": 5,
        "size": 19,
        "time": moment_text(datetime.fromtimestamp(LOGGED + 400, UTC)),
        "witnesses": ["m1", "m2", "m3"],
    }
    assert config["cohorts"] == {"1": ["m1", "m2", "m3"], "2": ["m1", "m2", "m3"], "3": ["m1", "m2", "m3"]}
    assert config["metrics"]["3"]["train/loss"] == pytest.approx((0.25 + 2 * 0.5 + 4 * 0.75) / 7)
    assert config["model"]["stateDigest"] == world.final.digest().hex()


def test_the_card_says_in_words_what_holds_and_what_does_not(tmp_path: Path) -> None:
    card = whole(trained().release(tmp_path))["README.md"].decode()
    assert card.startswith("# digits\n")
    assert "trained together, in 2 rounds of FedAvg" in card
    assert "| m1 | Laboratory \\| of m1 | FR | digits | 1 |" in card
    assert "> Reads \\*digits\\* \\<b\\>well\\</b\\>" in card, "words of others have no effect on the page"
    assert "no member colludes" in card
    assert "no differential privacy" in card
    assert "The cohorts and the figures are certified by the members' signatures" in card
    assert "concord verify . --roll roll.json" in card


def test_a_larger_federation_without_a_final_round(tmp_path: Path) -> None:
    world = trained(members=4, text=JOB.replace("rounds: 2", "rounds: 1\n  finalEvaluation: false"))
    files = world.release(tmp_path)
    assert verify(files, world.parties.roll.envelope).ok
    assert "rounds/2.json" not in files
    assert b"up to 1 may lie" in whole(files)["README.md"]


def test_a_member_that_dropped_out_stays_on_the_roster_and_out_of_the_cohort(tmp_path: Path) -> None:
    parties = founded(members=4)
    world = Training(parties, parties.manifest(nonce=bytes([9]) * 16))
    world.kill_before.add(("m4", "Upload"))
    world.begin().run()
    assert world.done is not None, world.stuck
    files = world.release(tmp_path)
    assert verify(files, parties.roll.envelope).ok
    assert json.loads(whole(files)["config.json"])["cohorts"]["1"] == ["m1", "m2", "m3"]
    assert "consents/m4.json" in files


def test_a_round_that_took_two_attempts_carries_the_aborts_of_the_first(tmp_path: Path) -> None:
    parties = founded(members=4)
    world = Training(parties, parties.manifest(nonce=bytes([10]) * 16))
    world.fail_task |= {"m3", "m4"}
    world.begin().run()
    assert world.done is not None, world.stuck
    assert [record.attempt for record in world.records()] == [1, 0, 0]
    assert world.records()[0].announcement.aborts
    assert verify(world.release(tmp_path), parties.roll.envelope).ok


def test_the_right_state_in_another_encoding_is_written_anew(tmp_path: Path) -> None:
    """A member supplies the state's file; its digest says what is in it, not how it is written."""
    world, other = trained(), tmp_path / "other.safetensors"
    state = world.final
    arrays = {SCALES: state.scales, **{WEIGHTS + name: array for name, array in state.arrays.items()}}
    write_arrays(other, arrays, {"round": str(state.round), "note": "hello"})
    files = world.release(tmp_path, state_file=other)
    assert b"hello" not in whole(files)[STATE]
    assert verify(files).ok


def test_a_release_on_disk_is_a_folder_of_plain_files(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    for path, data in whole(trained().release(tmp_path)).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    assert verify_folder(folder).ok
    (folder / "rounds" / "deep").mkdir()
    assert not verify_folder(folder).ok
    (folder / "rounds" / "deep").rmdir()
    (folder / "README.md").rename(tmp_path / "elsewhere.md")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere.md")
    report = verify_folder(folder)
    assert [check.name for check in report.checks] == ["folder"]
    assert "not a plain file" in report.checks[0].detail
    assert not verify_folder(tmp_path / "nowhere").ok


def _with(world: Training, **changes: Any) -> list[Any]:
    first, *rest = world.records()
    return [replace(first, **changes), *rest]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda world, inputs: {"consents": {name: inputs["consents"][name] for name in ("m1", "m2")}},
        lambda world, inputs: {"rounds": world.records()[:-1]},
        lambda world, inputs: {"rounds": [*world.records(), world.records()[0]]},
        lambda world, inputs: {"rounds": _with(world, receipts=world.records()[0].receipts[:1])},
        lambda world, inputs: {"rounds": _with(world, receipts=world.records()[1].receipts)},
        lambda world, inputs: {"rounds": _with(world, cohort=("m1", "m2"))},
        lambda world, inputs: {"rosters": []},
        lambda world, inputs: {"rosters": inputs["rosters"] * 2},
        lambda world, inputs: {"bundle": inputs["bundle"] + b"\0"},
        lambda world, inputs: {"manifest": trained(nonce=1).job.envelope},
        lambda world, inputs: {"roll": founded("other").roll.envelope},
    ],
    ids=[
        "no consent", "round missing", "round twice", "too few receipts", "receipts of another round", "another cohort",
        "no roster", "a roster twice", "another task", "another job", "another roll",
    ],
)  # fmt: skip
def test_what_would_not_verify_is_not_published(spoil: Any, tmp_path: Path) -> None:
    world = trained()
    with pytest.raises(FederationError):
        world.release(tmp_path, **spoil(world, world.inputs(tmp_path)))


def test_a_state_that_nobody_signed_is_not_published(tmp_path: Path) -> None:
    world, path = trained(), tmp_path / "wrong.safetensors"
    write_state(path, replace(world.final, arrays=world.final.arrays | {"bias": np.ones(2, np.float32)}, _digest=[]))
    with pytest.raises(VerificationFailed, match="the members signed"):
        world.release(tmp_path, state_file=path)


def test_what_was_trained_before_an_officer_took_a_new_key_is_released_and_verified_after_it(tmp_path: Path) -> None:
    """The roll of today carries the history; the roster is signed by the node that the old key vouched for."""
    world = copy.copy(trained())
    held, fresh = world.parties.roll, SigningKey.generate()
    members = [replace(each, officer_key=fresh.public) if each.id == "m2" else each for each in held.members]
    draft = draft_roll(held.federation, 2, members, held.leads, held.charter, held.digest)
    newer = extended(held, seal(draft, "roll", (world.parties.officers["m2"], fresh)), None)
    world.parties = replace(world.parties, roll=newer)
    release = world.release(tmp_path)
    for trusted in (held, newer):
        assert verify(release, trusted.envelope).ok
