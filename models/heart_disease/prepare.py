"""From the four files of UCI Heart Disease to what each centre keeps.

The data: A. Janosi, W. Steinbrunn, M. Pfisterer, R. Detrano, Heart Disease, UCI Machine Learning Repository, 1988, CC BY 4.0. The
preparation is that of FLamby's Fed-Heart-Disease (Ogier du Terrail et al., NeurIPS 2022, arXiv 2210.04620): the columns slope,
ca and thal are dropped, then rows with missing values; the target is whether there is any disease; of each centre 34 % is held
out for judging, stratified where both classes have more than two rows; the kinds of chest pain and of resting ECG become indicators
without their first level, at the end. Then each centre standardises by the mean and the deviation of its own training rows. No
centre needs to know anything of another: the levels are those of the attribute's documentation.

The files are not part of this project. A lab downloads them from UCI; their checksums are checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FILES: Final[Mapping[str, tuple[str, str]]] = {
    "cleveland": ("processed.cleveland.data", "2d91a8ff69cfd9616aa47b59d6f843db"),
    "hungarian": ("processed.hungarian.data", "22e96bee155b5973568101c93b3705f6"),
    "switzerland": ("processed.switzerland.data", "9a87f7577310b3917730d06ba9349e20"),
    "va": ("processed.va.data", "4249d03ca7711e84f4444768c9426170"),
}
"""centre -> file, and its MD5 as FLamby and UCI have it (MD5 tells a damaged file, not a forged one)"""

COLUMNS: Final = 14
DROPPED: Final = (10, 11, 12)
TARGET: Final = 13
LEVELS: Final[Mapping[int, tuple[float, ...]]] = {2: (1.0, 2.0, 3.0, 4.0), 6: (0.0, 1.0, 2.0)}
FEATURES: Final = 13
TEST_SHARE: Final = 0.34
SPLIT_SEED: Final = 43
FILE_LIMIT: Final = 1 << 20


class FileProblem(Exception):
    """What is wrong with a file (``str``), and what to do (``hint``)."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class MissingFile(FileProblem):
    """It cannot be read."""


@dataclass(frozen=True, slots=True)
class Rows:
    features: Array
    """float32[n, 13], standardised"""
    labels: Array
    """float32[n], 0 or 1"""


@dataclass(frozen=True, slots=True)
class Centre:
    train: Rows
    test: Rows


def read_centres(folder: Path, files: Mapping[str, tuple[str, str]] = FILES) -> dict[str, Centre]:
    """Raises MissingFile, or FileProblem for a file with another checksum or form."""
    return {centre: prepared(_rows(folder / name, md5)) for centre, (name, md5) in files.items()}


def _rows(path: Path, md5: str) -> Array:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise MissingFile(
            f"{path} cannot be read: {error.strerror}.",
            hint="Download the four processed.*.data files of UCI Heart Disease into one folder and name that folder.",
        ) from None
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise FileProblem(
            f"{path} is not the file that UCI publishes: its MD5 is {found}, and {md5} was expected.",
            hint="Download it again; the comparison with the published table holds for these very files only.",
        )
    lines = [line.split(",") for line in data.decode("ascii").splitlines() if line.strip()]
    if any(len(line) != COLUMNS for line in lines):
        raise FileProblem(f"{path} has rows that are not {COLUMNS} columns wide.", hint="Download it again.")
    kept = [column for column in range(COLUMNS) if column not in DROPPED]
    complete = [line for line in lines if all(line[column].strip() != "?" for column in kept)]
    return np.array(
        [[float(line[column]) if column in kept else 0.0 for column in range(COLUMNS)] for line in complete]
    )


def prepared(rows: Array) -> Centre:
    """One centre's training and test rows, float64[n, 14] as in the file without missing values."""
    from sklearn.model_selection import train_test_split

    labels = (rows[:, TARGET] > 0).astype(np.float32)
    plain = [column for column in range(COLUMNS) if column not in (*DROPPED, *LEVELS, TARGET)]
    indicators = [rows[:, column] == level for column, levels in LEVELS.items() for level in levels[1:]]
    features = np.column_stack([rows[:, plain], *indicators]).astype(np.float32)
    classes, counts = np.unique(labels, return_counts=True)
    stratify = labels if len(classes) > 1 and all(count > 2 for count in counts) else None
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=TEST_SHARE,
        train_size=1.0 - TEST_SHARE,
        random_state=SPLIT_SEED,
        shuffle=True,
        stratify=stratify,
    )
    train, test = np.sort(train), np.sort(test)
    mean = features[train].mean(axis=0, dtype=np.float64)
    deviation = features[train].std(axis=0, ddof=1, dtype=np.float64)
    deviation[deviation == 0] = 1.0  # a column that is constant here says nothing here
    scaled = ((features - mean) / deviation).astype(np.float32)
    return Centre(Rows(scaled[train], labels[train]), Rows(scaled[test], labels[test]))


def write(centre: Centre, place: Path) -> None:
    """What a centre's node mounts: train.npz and test.npz."""
    place.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(place / "train.npz", features=centre.train.features, labels=centre.train.labels)
    np.savez_compressed(place / "test.npz", features=centre.test.features, labels=centre.test.labels)
