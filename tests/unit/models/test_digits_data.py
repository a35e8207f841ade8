"""Who holds what in the demo: the promise of the partition, and the app as the members run it."""

from pathlib import Path

import numpy as np
import pytest

from models.digits import partition

MEMBERS = ("br", "fr", "in", "jp", "ke")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("digits")
    partition.write(place, MEMBERS)
    return place


def test_nobody_holds_more_than_seven_digits_nor_fewer_than_fifty_scans(folder: Path) -> None:
    for member in MEMBERS:
        labels = partition.read(folder / member).labels
        assert len(set(labels.tolist())) <= 7
        assert len(labels) >= 50


def test_the_seed_is_the_smallest_that_fits() -> None:
    labels = partition.load()[0].labels
    fits = [partition.fits(labels, partition.deal(labels, 5, seed)) for seed in range(partition.SEED + 1)]
    assert fits.index(True) == partition.SEED


def test_every_scan_is_held_once_and_those_that_judge_train_nobody(folder: Path) -> None:
    held = partition.held_out(folder)
    parts = [partition.read(folder / member) for member in MEMBERS]
    together = np.concatenate([part.images for part in parts])
    assert len(together) + len(held.images) == 1797
    rows = {image.tobytes() for image in together}
    from sklearn.datasets import load_digits

    known = {(image / 16.0).astype(np.float32).tobytes() for image in load_digits().images}
    assert rows <= known
    assert len(together) == sum(len(part.labels) for part in parts)
    shares = np.bincount(held.labels, minlength=10) / np.bincount(load_digits().target, minlength=10)
    assert np.all(np.abs(shares - 0.2) < 0.01)
