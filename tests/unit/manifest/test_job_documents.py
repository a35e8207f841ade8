"""A job as people write it: five things of its own, defaults for the rest, and errors with line, field, and what to do."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidManifest
from federation.manifest.document import load_job
from federation.manifest.schema import bytes_of
from federation.manifest.strategy import DEFAULTS
from tests.unit.identity.parties import JOB

FULL = """# a job with most of its fields
apiVersion: concord/v1
kind: TrainingJob
metadata:
  name: digits
  description: |
    Reads digits.
    Two lines.
  labels: {team: vision}
spec:
  app: ./digits
  dataSet: {name: digits, tags: [scans]}
  extraDataSets: [held-out]
  model: {factory: "digits.task:Net", seed: 42}
  rounds: 25
  localSteps: 20
  strategy: {name: FedAdam, eta: 1e-2, biasCorrection: false}
  runConfig: {lr: 1e-3, momentum: 1.0, epochs: 2, nesterov: true, schedule: cosine}
  messageConfig: {lr: 0.5, warm: 2.0}
  metrics:
    train: [loss]
    evaluate: [loss, accuracy]
  participants:
    minMembers: 4
    maxMembers: 9
    minJurisdictions: 3
    jurisdictions: [CH, FR, KE, NO]
    members: [ch, fr, ke, no]
  resources: {gpus: 1, gpuMemory: 16Gi, cpus: 4, memory: 8Gi}
  priority: -5
  secureAggregation: {ringBits: 8, clipNorm: 10, weighting: equal, scaleExponent: -8}
  deadlines: {phaseSeconds: 12.5}
  runtime: {python: ">=3.11,<3.14", packages: {torch: ">=2.4", numpy: ""}}
  errorDetail: none
"""


def refused(text: str) -> InvalidManifest:
    with pytest.raises(InvalidManifest) as raised:
        load_job(text, "job.yaml")
    assert str(raised.value).startswith("job.yaml")
    return raised.value


def test_five_things_are_enough() -> None:
    spec = load_job(JOB, "job.yaml").spec
    assert (spec.data_set.name, spec.rounds, spec.strategy.name) == ("digits", 10, "FedAvg")
    assert (spec.participants.min_members, spec.secure_aggregation.ring_bits) == (3, 16)
    assert spec.secure_aggregation.clip_norm == 100.0


def test_every_field_is_read_with_its_type() -> None:
    job = load_job(FULL, "job.yaml")
    spec = job.spec
    assert job.metadata.description == "Reads digits.\nTwo lines.\n"
    assert spec.settings == {"lr": 0.001, "momentum": 1.0, "epochs": 2, "nesterov": True, "schedule": "cosine"}
    assert [type(value) for value in spec.settings.values()] == [float, float, int, bool, str]
    assert spec.messages == {"lr": 0.5, "warm": 2.0}
    assert [type(value) for value in spec.messages.values()] == [float, float]
    assert spec.participants.jurisdictions == ["CH", "FR", "KE", "NO"]
    assert spec.secure_aggregation.clip_norm == 10.0
    assert spec.strategy_spec.parameters == {**DEFAULTS["FedAdam"], "eta": 0.01, "biasCorrection": False}


@pytest.mark.parametrize("missing", ["apiVersion", "kind", "name", "app", "dataSet"])
def test_each_of_the_five_must_be_there(missing: str) -> None:
    text = "\n".join(line for line in JOB.splitlines() if missing not in line)
    assert missing in refused(text + "\n").field or missing in ("name",)


@pytest.mark.parametrize(
    ("addition", "field", "hint"),
    [
        ("  round: 3", "spec.round", "rounds"),
        ("  data_set: x", "spec.data_set", "dataSet"),
        ("  participants: {min_members: 3}", "spec.participants.min_members", "minMembers"),
        ("  secureAggregation: {clipnorm: 3}", "spec.secureAggregation.clipnorm", "clipNorm"),
        ("  strategy: {name: FedProx, proximalmu: 1}", "spec.strategy.proximalmu", "proximalMu"),
        ("  strategy: {name: FedAvg, eta: 1}", "spec.strategy.eta", "no parameters"),
    ],
)
def test_an_unknown_field_is_refused_and_the_nearest_is_named(addition: str, field: str, hint: str) -> None:
    error = refused(JOB + addition + "\n")
    assert (error.field, error.line) == (field, 7)
    assert hint in error.hint


@pytest.mark.parametrize(
    "addition",
    [
        '  rounds: "10"',
        "  rounds: 10.0",
        "  rounds: true",
        "  rounds: 0",
        "  rounds: null",
        "  rounds: [10]",
        "  rounds: " + "9" * 300,
        "  rounds: " + "9" * 5000,
        "  localSteps: 0",
        "  finalEvaluation: 1",
        "  finalEvaluation: yes",
        "  weightKey: 3",
        "  weightKey: ''",
        "  extraDataSets: digits",
        "  extraDataSets: [digits]",
        "  priority: high",
        "  coordinatorView: all",
        "  dataSet: ../digits",
        "  extraDataSets: [Digits]",
        "  metrics: {train: [a b]}",
        "  metrics: {train: [loss, loss]}",
        "  model: {factory: os.system}",
        "  model: {factory: 'a..b:c'}",
        "  model: {seed: -1}",
        "  model: {snapshot: sha256:00}",
        "  model: {snapshotFile: a.safetensors, factory: 'a:b'}",
        "  strategy: {name: FedSGD}",
        "  strategy: FedAvg",
        "  strategy: {name: FedProx, proximalMu: true}",
        "  strategy: {name: FedProx, proximalMu: -1}",
        "  strategy: {name: FedProx, proximalMu: 1e30}",
        "  strategy: {name: FedProx, proximalMu: " + "9" * 390 + "}",
        "  strategy: {name: FedAdam, biasCorrection: 1}",
        "  strategy: {name: FedAdam, beta1: 1.0}",
        "  strategy: {name: FedAdam, tau: 0}",
        "  runConfig: {a: [1]}",
        "  runConfig: {a: null}",
        "  runConfig: {a: {b: 1}}",
        "  runConfig: {a: 9007199254740992}",
        "  runConfig: {a: 1e300}",
        "  runConfig: {a: .nan}",
        "  runConfig: {a: -.inf}",
        "  runConfig: {a: 1e999}",
        "  runConfig: {1: a}",
        "  runConfigFloats: [lr]",
        "  bundle: {digest: " + "0" * 64 + "}",
        "  participants: {minMembers: 2}",
        "  participants: {maxMembers: 201}",
        "  participants: {minMembers: 5, maxMembers: 4}",
        "  participants: {members: [a, b]}",
        "  participants: {members: [a, a, b]}",
        "  participants: {members: [a, b, C]}",
        "  participants: {minJurisdictions: 4, maxMembers: 3}",
        "  participants: {minJurisdictions: 3, jurisdictions: [CH, FR]}",
        "  participants: {minJurisdictions: 4, members: [a, b, c]}",
        "  participants: {jurisdictions: [Switzerland]}",
        "  resources: {memory: 1}",
        "  resources: {memory: 1GB}",
        "  resources: {memory: -1Gi}",
        "  resources: {memory: ٣Gi}",
        "  resources: {gpus: -1}",
        "  secureAggregation: {ringBits: 12}",
        "  secureAggregation: {ringBits: '16'}",
        "  secureAggregation: {ringBits: 8}",
        "  secureAggregation: {clipNorm: 0}",
        "  secureAggregation: {clipNorm: '100'}",
        "  secureAggregation: {clipNorm: " + "9" * 390 + "}",
        "  secureAggregation: {scaleExponent: 9}",
        "  secureAggregation: {minScaleExponent: 0}",
        "  secureAggregation: {chunkParameters: 1000}",
        "  secureAggregation: {cipher: rot13}",
        "  deadlines: {phaseSeconds: 0}",
        "  deadlines: {phaseSeconds: -1}",
        "  deadlines: {attempts: 1.5}",
        "  runtime: {python: 3.11}",
        "  runtime: {python: 'three'}",
        "  runtime: {packages: {torch: 2}}",
        "  runtime: {packages: {torch: 'latest'}}",
    ],
    ids=lambda text: text.strip()[:60],
)
def test_a_wrong_value_is_refused_with_its_line_and_field(addition: str) -> None:
    error = refused(JOB + addition + "\n")
    assert error.line == 7
    assert error.field.startswith("spec.") or "field name" in str(error)
    assert error.hint
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (JOB + "  app: ./other\n", "stands twice (first on line 5)", 7),
        (JOB.replace("{name: tiny}", "{name: tiny, name: b}"), "stands twice", 3),
        (JOB + "  runConfig: &a {b: 1}\n", "anchors", 7),
        (JOB + "  runConfig: *a\n", "anchors", 7),
        (JOB + "  runConfig: {<<: {b: 1}, <<: {c: 2}}\n", "merge keys", 7),
        (JOB + "---\n" + JOB, "not valid YAML", 7),
        (JOB + "  weightKey: !!python/object/apply:os.system [ls]\n", "tag", 7),
        (JOB + "  weightKey: !!timestamp 2026-01-01\n", "tag", 7),
        (JOB + "  priority: !!int zero\n", "tag names", 7),
        (JOB + "  runConfig: !!set {a}\n", "tag", 7),
        (JOB + "  ? [a]\n  : b\n", "field name", 7),
        *(
            (JOB + f"  priority: {text}\n", "not written plainly", 7)
            for text in ("1e3", "0x10", "010", "1_000", "+1", ".5")
        ),
        (JOB + "  rounds: 'a\n", "not valid YAML", 8),
        (JOB + "\t rounds: 3\n", "not valid YAML", 7),
        ("", "empty", 1),
        ("# nothing\n", "empty", 1),
        ("- a\n", "mapping", 1),
        ("null\n", "mapping", 1),
        (JOB + "  runConfig: " + "[" * 40 + "]" * 40 + "\n", "nested", 7),
        (JOB + "  runConfig: " + "{a: " * 5000 + "\n", "nested", 7),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_yaml_beyond_what_is_needed_is_refused(text: str, message: str, line: int) -> None:
    error = refused(text)
    assert message in str(error)
    assert error.line == line


def test_a_document_over_one_mebibyte_is_refused() -> None:
    assert "larger" in str(refused(JOB + "#" * (1 << 20)))


def test_plain_scalars_are_those_of_yaml_1_2() -> None:
    """YAML 1.1 would make a boolean of Norway, a text of 1e-3, and a date of 2026-01-01."""
    text = (
        JOB
        + "  runConfig: {a: no, b: 1e-3, c: 10, d: '22:30', e: 2026-01-01, f: '1_000', g: 0.5, h: '0x10', i: True}\n"
    )
    assert load_job(text, "job.yaml").spec.settings == {
        "a": "no",
        "b": 0.001,
        "c": 10,
        "d": "22:30",
        "e": "2026-01-01",
        "f": "1_000",
        "g": 0.5,
        "h": "0x10",
        "i": True,
    }


def test_text_cannot_smuggle_terminal_escapes() -> None:
    for escape in (r'"\e[31m"', r'"\ud800"', r'"a\x00"', r'"\u202e"', r'"\f"'):
        refused(JOB.replace("{name: tiny}", f"{{name: tiny, description: {escape}}}"))
        refused(JOB + f"  weightKey: {escape}\n")
    refused(JOB + r'  weightKey: "a\nb"' + "\n")


SCRAPS = st.sampled_from(
    [
        ":",
        " ",
        "\n",
        "\t",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "!!",
        "- ",
        "#",
        "'",
        '"',
        "~",
        "1e999",
        "0" * 500,
        "true",
        "null",
        "---",
        "...",
        "%YAML 1.1",
        "\x00",
        "\ud800",
        "\x85",
        "é",
        "|",
        ">",
        "<<",
        "? ",
        ",",
        "-1",
        "nan",
    ]
)


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(FULL) - 1), st.integers(0, 30), SCRAPS | st.text(max_size=5))
def test_whatever_is_written_gives_a_job_or_a_clear_error(position: int, cut: int, scrap: str) -> None:
    text = FULL[:position] + scrap + FULL[position + cut :]
    try:
        load_job(text, "job.yaml")
    except InvalidManifest as error:
        assert str(error)  # noqa: PT017
        assert "Traceback" not in str(error)  # noqa: PT017


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.labels",
        "spec",
        "spec.app",
        "spec.dataSet",
        "spec.model",
        "spec.strategy",
        "spec.strategy.name",
        "spec.strategy.eta",
        "spec.runConfig",
        "spec.metrics",
        "spec.participants",
        "spec.participants.members",
        "spec.secureAggregation",
        "spec.secureAggregation.ringBits",
        "spec.deadlines.phaseSeconds",
        "spec.runtime.packages",
        "spec.runConfig.lr",
        "spec.bundle",
        "spec.rounds",
    ]
)


@settings(deadline=None, max_examples=300)
@given(PATHS, VALUES)
def test_any_value_in_any_field_gives_a_job_or_a_clear_error(path: str, value: object) -> None:
    document = yaml.safe_load(FULL)
    *parents, last = path.split(".")
    place = document
    for part in parents:
        place = place[part]
    place[last] = value
    try:
        job = load_job(yaml.safe_dump(document, allow_unicode=True), "job.yaml")
    except InvalidManifest as error:
        assert str(error)  # noqa: PT017
    else:
        assert job.resolved()["apiVersion"] == "concord/v1"


@pytest.mark.parametrize(
    ("quantity", "expected"), [("0", 0), ("512Mi", 512 << 20), ("1Gi", 1 << 30), ("1G", 10**9), ("3k", 3000)]
)
def test_quantities(quantity: str, expected: int) -> None:
    assert bytes_of(quantity) == expected
