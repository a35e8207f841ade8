"""Preparing the four centres, on made rows in the published form, with checksums of their own."""

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from models.heart_disease import prepare
from models.heart_disease.score import JOBS, PUBLISHED

SIZES = {"cleveland": 60, "hungarian": 50, "switzerland": 24, "va": 40}


def made_line(dice: random.Random, *, missing: bool = False) -> str:
    sick = dice.random() < 0.5
    age = dice.gauss(58 if sick else 50, 8)
    cells = [
        f"{age:.0f}", str(dice.randint(0, 1)), str(dice.randint(1, 4)), f"{dice.gauss(130, 15):.0f}",
        f"{dice.gauss(240, 40):.0f}", str(dice.randint(0, 1)), str(dice.randint(0, 2)),
        f"{dice.gauss(120 if sick else 150, 15):.0f}", str(int(dice.random() < (0.7 if sick else 0.2))),
        f"{abs(dice.gauss(2 if sick else 0.5, 0.7)):.1f}", "?", "?", "?", str(dice.randint(1, 4) if sick else 0),
    ]  # fmt: skip
    if missing:
        cells[4] = "?"
    return ",".join(cells)


def made_files(folder: Path, seed: int = 1) -> Mapping[str, tuple[str, str]]:
    """Four files of made patients, every tenth with a missing value; centre -> (name, md5)."""
    dice = random.Random(seed)
    files = {}
    for centre, size in SIZES.items():
        lines = [made_line(dice) for _ in range(size)]
        lines[5::10] = [made_line(dice, missing=True) for _ in lines[5::10]]
        data = ("\n".join(lines) + "\n").encode()
        name = prepare.FILES[centre][0]
        (folder / name).write_bytes(data)
        files[centre] = (name, hashlib.md5(data, usedforsecurity=False).hexdigest())
    return files


def test_rows_are_split_standardised_and_complete(tmp_path: Path) -> None:
    centres = prepare.read_centres(tmp_path, made_files(tmp_path))
    assert list(centres) == list(SIZES)
    for centre, size in SIZES.items():
        train, test = centres[centre].train, centres[centre].test
        kept = size - len(range(5, size, 10))
        assert len(train.labels) + len(test.labels) == kept
        assert len(test.labels) == round(0.34 * kept) or abs(len(test.labels) - 0.34 * kept) < 1
        assert train.features.shape == (len(train.labels), prepare.FEATURES)
        np.testing.assert_allclose(train.features.mean(axis=0), 0, atol=1e-5)
        deviation = train.features.std(axis=0, ddof=1)
        assert np.all(np.isclose(deviation, 1, atol=1e-4) | (deviation == 0))
        assert set(train.labels.tolist()) <= {0.0, 1.0}


def test_a_column_that_is_constant_at_a_centre_becomes_nought_and_not_nan() -> None:
    rows = np.array(
        [[float(cell.replace("?", "0")) for cell in made_line(random.Random(i)).split(",")] for i in range(30)]
    )
    rows[:, 4] = 0.0  # as in Switzerland, where cholesterol was not taken
    centre = prepare.prepared(rows)
    assert np.isfinite(centre.train.features).all()
    assert not centre.train.features[:, 3].any()


def test_nothing_of_one_centre_changes_another(tmp_path: Path) -> None:
    files = made_files(tmp_path)
    before = prepare.read_centres(tmp_path, files)["va"]
    alone = prepare.read_centres(tmp_path, {"va": files["va"]})["va"]
    np.testing.assert_array_equal(before.train.features, alone.train.features)


def test_a_missing_or_changed_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    files = made_files(tmp_path)
    with pytest.raises(prepare.FileProblem, match="MD5") as changed:
        prepare.read_centres(tmp_path)
    assert "Download" in changed.value.hint
    (tmp_path / files["va"][0]).unlink()
    with pytest.raises(prepare.MissingFile, match=r"processed\.va\.data"):
        prepare.read_centres(tmp_path, files)


def test_there_is_a_job_for_every_published_method() -> None:
    assert {path.stem for path in JOBS.glob("*.yaml")} == {method.lower() for method in PUBLISHED}
