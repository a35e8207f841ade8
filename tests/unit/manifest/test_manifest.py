"""The signed manifest: what a lead writes comes back with the same values and types, and nothing is left open."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity, InvalidManifest
from federation.identity.envelope import open_envelope, seal
from federation.manifest.manifest import Manifest, examples_bucket, open_manifest, packages_of, seal_manifest
from tests.unit.identity.parties import APP, CREATED, JOB, NONCE, found, prepared, submitted
from tests.unit.manifest.test_job_documents import FULL

PARTIES = found("ch", "fr", "ke", "no")
BUNDLE, INFO = prepared()


def test_the_manifest_says_all_that_the_machines_need() -> None:
    job = PARTIES.job()
    assert (job.name, job.federation, job.lead.id, job.created) == ("tiny", "health", "lead", CREATED)
    assert (job.factory, job.snapshot) == ("tiny.task:initial_arrays", None)
    assert (job.bundle_digest, job.bundle_size, job.client_app) == (BUNDLE.digest, BUNDLE.size, "tiny.client_app:app")
    assert (job.data_set, job.memory_bytes) == ("digits", 1 << 30)
    assert job.spec.runtime.packages == {"numpy": ">=2.0"}
    terms = job.terms()
    assert (terms.job, terms.federation, terms.rounds, terms.last_round) == (job.digest, "health", 10, 11)
    assert terms.metrics == (
        "evaluate/accuracy",
        "evaluate/eval_acc",
        "evaluate/eval_loss",
        "evaluate/loss",
        "train/loss",
        "train/train_loss",
    )
    windows = job.windows()
    assert (windows.formation, windows.formation_attempts, windows.attempts) == (60.0, 3, 5)


def test_a_job_read_twice_is_the_same_job() -> None:
    first, second = PARTIES.job(FULL), PARTIES.job(FULL)
    assert first.digest == second.digest
    assert first == second
    assert PARTIES.job(FULL.replace("rounds: 25", "rounds: 26")).digest != first.digest


def test_the_apps_own_settings_stand_under_the_jobs() -> None:
    text = JOB + "  localSteps: 20\n  runConfig: {size: 5, name: a}\n"
    config = PARTIES.job(text).run_config
    assert config == {"rate": 1.0, "size": 5, "name": "a", "local-steps": 20}
    assert [type(config[key]) for key in ("rate", "size", "local-steps")] == [float, int, int]


NUMBERS = st.floats(-(2.0**53) + 1, 2.0**53 - 1) | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans()


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abc-_.", min_size=1, max_size=4), NUMBERS | st.text("ab0.é ", max_size=5), max_size=4))
def test_every_setting_reads_back_with_its_type(config: dict[str, Any]) -> None:
    """Canonical JSON writes 1.0 as 1; an app must not notice."""
    job = PARTIES.job(JOB + f"  runConfig: {json.dumps(config)}\n")
    read = {key: value for key, value in job.run_config.items() if key in config}
    assert read == config
    assert {key: type(value) for key, value in read.items()} == {key: type(value) for key, value in config.items()}


def test_numbers_that_happen_to_be_whole_keep_their_type() -> None:
    ring = PARTIES.job(FULL).spec.secure_aggregation
    assert isinstance(ring.clip_norm, float)
    parameters = PARTIES.job(JOB + "  strategy: {name: FedAvgM}\n").strategy.parameters
    assert parameters == {"serverLearningRate": 1.0, "serverMomentum": 0.0}
    assert all(isinstance(value, float) for value in parameters.values())
    assert PARTIES.job(JOB + "  strategy: {name: FedAdam}\n").strategy.parameters["biasCorrection"] is True


def test_a_snapshot_takes_the_place_of_a_factory() -> None:
    digest = bytes(range(32))
    text = JOB + f"  model: {{snapshot: 'sha256:{digest.hex()}'}}\n"
    job = PARTIES.job(text)
    assert (job.snapshot, job.factory) == (digest, None)
    document = submitted(JOB + "  model: {snapshotFile: start.safetensors}\n")
    arguments = (document, BUNDLE, INFO, "health", "lead", PARTIES.lead_key, CREATED, NONCE)
    assert open_manifest(seal_manifest(*arguments, snapshot=digest), PARTIES.roll).snapshot == digest
    with pytest.raises(InvalidManifest, match="not uploaded"):
        seal_manifest(*arguments)


def test_a_job_that_names_no_seed_gets_one_of_its_own() -> None:
    """So that two jobs start from two models, and figures of one do not stand in the way of the other."""
    document = submitted(JOB)
    sealed = [
        seal_manifest(document, BUNDLE, INFO, "health", "lead", PARTIES.lead_key, CREATED, bytes([each]) * 16)
        for each in (1, 1, 2)
    ]
    first, again, other = (open_manifest(each, PARTIES.roll).seed for each in sealed)
    assert first == again != other
    assert PARTIES.job(JOB + "  model: {seed: 7}\n").seed == 7
    spec = open_envelope(sealed[0], "manifest").document["spec"]
    del spec["model"]["seed"]
    with pytest.raises(InvalidManifest, match="does not name the seed"):
        open_manifest(resigned(spec=spec), PARTIES.roll)


def test_a_job_without_a_first_model_is_not_signed() -> None:
    files = {**APP, "pyproject.toml": APP["pyproject.toml"].split(b"[tool.concord]")[0]}
    with pytest.raises(InvalidManifest, match="no first model"):
        PARTIES.submit(JOB, files)
    assert PARTIES.job(JOB + "  model: {factory: 'tiny.task:net'}\n", files).factory == "tiny.task:net"


def resigned(**changes: Any) -> bytes:
    document = {**open_envelope(PARTIES.submit(), "manifest").document, **changes}
    return seal({key: value for key, value in document.items() if value is not None}, "manifest", (PARTIES.lead_key,))


def read(**changes: Any) -> Manifest:
    return open_manifest(resigned(**changes), PARTIES.roll)


def spec(**changes: Any) -> dict[str, Any]:
    document = {**open_envelope(PARTIES.submit(), "manifest").document["spec"], **changes}
    return {key: value for key, value in document.items() if value is not None}


@pytest.mark.parametrize("kind", ["EvaluationJob", "StatisticsJob"])
def test_a_signed_job_of_a_later_version_is_refused_by_its_kind(kind: str) -> None:
    with pytest.raises(InvalidManifest, match=f"{kind} is not in this version"):
        read(kind=kind)
    with pytest.raises(InvalidManifest, match=f"{kind} is not in this version"):
        read(kind=kind, spec={"queries": []})
    assert read().terms().kind == "TrainingJob"


def test_the_tests_forger_writes_manifests_that_open() -> None:
    assert read() == PARTIES.job()
    assert read(spec=spec(rounds=3)).spec.rounds == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": "climate"},
        {"federation": None},
        {"lead": None},
        {"lead": 3},
        {"created": "yesterday"},
        {"created": None},
        {"nonce": "00"},
        {"nonce": None},
        {"surprise": 1},
        {"kind": "Other"},
        {"apiVersion": "concord/v2"},
        {"spec": None},
        {"metadata": {"name": "tiny"}},
    ],
    ids=str,
)
def test_a_manifest_with_other_fields_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        read(**changes)


BAD_BUNDLE = {"digest": "00", "size": 1, "files": [], "clientApp": "a:b"}


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"bundle": None},
        {"bundle": BAD_BUNDLE},
        {"bundle": BAD_BUNDLE | {"digest": "00" * 32, "files": [["a", "00" * 32]]}},
        {"bundle": BAD_BUNDLE | {"digest": "00" * 32, "files": [["a", "00" * 32, True]]}},
        {"app": "./tiny"},
        {"rounds": "10"},
        {"rounds": None},
        {"strategy": {"name": "FedAdam"}},
        {"strategy": {"name": "FedAvg", "eta": 1}},
        {"dataSet": "digits"},
        {"model": {"seed": 0}},
        {"runConfigFloats": ["nothing"]},
        {"runConfigFloats": ["size", "size"]},
        {"messageConfigFloats": ["lr"]},
        {"messageConfig": {"proximal-mu": 1}},
        {"participants": {"minMembers": 2}},
        {"secureAggregation": {"ringBits": 12}},
        {"runtime": {"python": "?", "packages": {}}},
    ],
    ids=str,
)
def test_a_signed_manifest_is_validated_and_complete(changes: dict[str, Any]) -> None:
    """A lead's signature does not make a wrong document right, and no default is read into one."""
    with pytest.raises(InvalidManifest):
        read(spec=spec(**changes))


def test_a_manifest_is_signed_by_its_lead_alone() -> None:
    document = open_envelope(PARTIES.submit(), "manifest").document
    officer = PARTIES.officers["ch"]
    for keys in ((), (officer,), (PARTIES.lead_key, officer)):
        with pytest.raises(InvalidIdentity, match="not signed by the lead"):
            open_manifest(seal(document, "manifest", keys), PARTIES.roll)


def test_a_lead_whom_the_roll_does_not_list_submits_nothing() -> None:
    with pytest.raises(InvalidIdentity, match="not a lead"):
        read(lead="stranger")
    with pytest.raises(InvalidIdentity):
        open_manifest(PARTIES.submit(), found("ch", "fr", "ke", "no").roll)


def test_dependencies_become_version_ranges() -> None:
    assert packages_of(("flwr[simulation]>=1.41", "Scikit_Learn >=1.5,<2", "numpy", 'old; python_version < "3"')) == {
        "scikit-learn": "<2,>=1.5",
        "numpy": "",
    }
    with pytest.raises(InvalidManifest, match="cannot be read"):
        packages_of(("not a requirement!",))


@settings(deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 1 << 20))
def test_a_weight_is_a_power_of_two_at_most_the_count_and_the_cap(count: int, cap: int) -> None:
    bucket = examples_bucket(count, "examples", cap)
    assert bucket & (bucket - 1) == 0
    assert bucket <= min(count, cap) < 2 * bucket
    assert examples_bucket(count, "equal", cap) == 1


def test_a_member_without_examples_has_no_weight() -> None:
    with pytest.raises(InvalidManifest, match="no examples"):
        examples_bucket(0, "examples", 100)
