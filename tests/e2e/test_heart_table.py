"""Heart disease through real nodes equals the same training done plainly in this process, on made rows and on the real ones.

The plain training knows no coordinator, no masks and no encoding: float64 sums, the formulas of FedAvg and of FedAdam (Reddi et
al., arXiv 2003.00295, without bias correction).
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from examples.heart.__main__ import federation, job_document, missed, release_of
from examples.local_federation import LocalFederation
from federation.errors import FederationError, InvalidUsage, NotFound, VerificationFailed, exit_code
from federation.manifest.manifest import examples_bucket
from models.heart_disease.prepare import Centre, Rows, read_centres
from models.heart_disease.score import PUBLISHED, mean_accuracy, score, task
from tests.unit.models.test_heart_data import made_files

ROOT = Path(__file__).resolve().parents[2]
SEED = 42


def tensors(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(rows.features), torch.from_numpy(rows.labels)


def trained_plainly(method: str, seed: int, centres: Mapping[str, Centre]) -> torch.nn.Module:
    spec = job_document(method, seed)["spec"]
    rate, strategy = spec["runConfig"]["learning-rate"], spec["strategy"]
    torch.manual_seed(seed)
    model: torch.nn.Module = task().Regression()
    state = [parameter.detach().double() for parameter in model.parameters()]
    first, second = [torch.zeros_like(part) for part in state], [torch.zeros_like(part) for part in state]

    def take(parts: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter, part in zip(model.parameters(), parts, strict=True):
                parameter.copy_(part)

    for round_number in range(1, spec["rounds"] + 1):
        total, weights = [torch.zeros_like(part) for part in state], 0
        for index, centre in enumerate(centres.values()):
            take(state)
            begin = [parameter.detach().clone() for parameter in model.parameters()]
            order = seed + 1000 * round_number + 100 * index
            pull = float(strategy.get("proximalMu", 0.0))
            task().train(model, *tensors(centre.train), steps=100, batch=4, rate=rate, seed=order, proximal=pull)
            weight = examples_bucket(len(centre.train.labels), "examples", 1 << 20)
            weights += weight
            for place, (now, then) in enumerate(zip(model.parameters(), begin, strict=True)):
                total[place] += weight * (now.detach() - then).double()
        step = [part / weights for part in total]
        if method == "FedAdam":
            first = [0.9 * old + 0.1 * new for old, new in zip(first, step, strict=True)]
            second = [0.999 * old + 0.001 * new * new for old, new in zip(second, step, strict=True)]
            step = [
                strategy["eta"] * one / (two.sqrt() + strategy["tau"]) for one, two in zip(first, second, strict=True)
            ]
        state = [old + new for old, new in zip(state, step, strict=True)]
    take(state)
    return model


TOLERANCE = 2e-6
"""float32 and a ring of 32 bits leave some 2e-7; FedProx lies fifty times farther from FedAvg"""


def apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert set(one) == set(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def assert_alike(release: Path, plain: torch.nn.Module) -> None:
    assert apart(load_file(release / "model.safetensors"), plain.state_dict()) < TOLERANCE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalFederation, Path, dict[str, Centre]]]:
    folder = tmp_path_factory.mktemp("made")
    centres = read_centres(folder, made_files(folder))
    with federation(folder, centres) as local:
        yield local, folder, centres


@pytest.mark.parametrize("method", [pytest.param("FedProx", marks=pytest.mark.soak), "FedAdam"])
def test_made_patients(made: tuple[LocalFederation, Path, dict[str, Centre]], method: str) -> None:
    local, folder, centres = made
    plain = trained_plainly(method, SEED, centres)
    # What the tolerance must tell apart: another method, another seed.
    assert apart(plain.state_dict(), trained_plainly("FedAvg", SEED, centres).state_dict()) > 10 * TOLERANCE
    assert apart(plain.state_dict(), trained_plainly(method, SEED + 1, centres).state_dict()) > 10 * TOLERANCE
    assert_alike(release_of(local, folder, method, SEED), plain)


@pytest.mark.pages
@pytest.mark.timeout(240)
def test_the_real_patients(tmp_path: Path) -> None:
    named = os.environ.get("CONCORD_TEST_HEART_DATA")
    if not named:
        pytest.skip("CONCORD_TEST_HEART_DATA does not name the folder with the four files of UCI Heart Disease")
    centres = read_centres(Path(named))
    assert [len(centre.train.labels) for centre in centres.values()] == [199, 172, 30, 85]
    assert [len(centre.test.labels) for centre in centres.values()] == [104, 89, 16, 45]
    with federation(tmp_path, centres) as local:
        for method in ("FedAvg", "FedAdam"):
            release = release_of(local, tmp_path, method, SEED)
            plain = trained_plainly(method, SEED, centres)
            assert_alike(release, plain)
            assert score(release / "model.safetensors", centres) == mean_accuracy(plain, centres)


def shown(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.heart", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("absent", NotFound(""), "processed.cleveland.data"),
        ("altered", VerificationFailed(""), "MD5"),
        ("no seed", InvalidUsage(""), "seed"),
        ("no method", InvalidUsage(""), "FedNone"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_starts(
    tmp_path: Path, fault: str, error: FederationError, says: str
) -> None:
    made_files(tmp_path)  # in the right form, and not the published ones
    if fault == "absent":
        for path in tmp_path.glob("*.data"):
            path.unlink()
    extra = {"no seed": ("--seeds", "42,one"), "no method": ("--methods", "FedAvg,FedNone")}.get(fault, ())
    done = shown("--data", tmp_path, *extra)
    assert done.returncode == exit_code(error)
    assert says in done.stderr
    assert "what to do" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_table_that_is_missed_is_named() -> None:
    assert missed(PUBLISHED) == []
    edge = {**PUBLISHED, "FedAdam": PUBLISHED["FedAdam"] + 0.0051}
    assert missed(edge) == ["FedAdam"]
    assert missed({**PUBLISHED, "FedAvg": PUBLISHED["FedAvg"] - 0.0051}) == ["FedAvg"]
