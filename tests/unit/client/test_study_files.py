"""`concord apply` of a study: what is wrong is said with file, line and field; a run's study is found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.client.home import Home
from coordinator.client.studies import named
from federation.errors import InvalidManifest, NotFound
from federation.manifest.yaml_source import read_yaml
from tests.unit.client.typed import Said, concord, done, refused
from tests.unit.identity.parties import APP

STUDY = """apiVersion: concord/v1
kind: Study
metadata: {name: search}
spec:
  job:
    app: ./app
    dataSet: digits
    rounds: 3
  vary:
    rate: {least: 0.5, most: 2}
  runs: 2
  rounds: 8
  bytes: 1Gi
  expires: 2027-01-31T12:00:00Z
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in APP.items():
        path = tmp_path / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def rehearsed(folder: Path, text: str) -> Said:
    path = folder / "study.yaml"
    path.write_text(text)
    return concord("apply", "-f", path, "--dry-run")


def test_a_dry_run_shows_the_whole_study_and_signs_nothing(folder: Path) -> None:
    said = done(rehearsed(folder, STUDY))
    assert "kind: Study" in said.out
    assert "minMembers: 3" in said.out, "defaults are filled in"
    assert "nothing was signed or sent" in said.err
    assert sorted(path.name for path in folder.iterdir()) == ["app", "study.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("runs: 2", "runs: no", ("study.yaml:11: spec.runs",)),
        ("rounds: 3", "round: 3", ("study.yaml:8: spec.job.round: unknown field", "Did you mean rounds?")),
        ("app: ./app", "app: ./nowhere", ("study.yaml:6: spec.job.app", "does not exist")),
        ("rate: {", "speed: {", ("study.yaml:10: spec.vary.speed: the job has no such setting",)),
        ("least: 0.5", "least: 1.5", ("study.yaml:10: spec.vary.rate: the study's own job lies outside",)),
        ("  bytes: 1Gi\n", "", ("spec.bytes", "missing")),
        ("metadata: {name: search}", "metadata: {name: search, study: x}", ("study.yaml:3: metadata.study",)),
        ("runs: 2", "runs: 2\n  runs: 3", ("study.yaml:12", "twice")),
    ],
)
def test_what_is_wrong_with_a_study_is_told_with_its_line(
    folder: Path, old: str, new: str, told: tuple[str, ...]
) -> None:
    assert old in STUDY
    refused(rehearsed(folder, STUDY.replace(old, new)), InvalidManifest, *told)


def test_a_study_that_this_home_has_not_signed_is_not_found_by_name(home: Home) -> None:
    run = "apiVersion: concord/v1\nkind: TrainingJob\nmetadata: {name: a, study: search}\n"
    with pytest.raises(NotFound, match="has signed no study named 'search'"):
        named(read_yaml(run, "run.yaml"), home)
    digest = read_yaml(run.replace("study: search", f"study: {'ab' * 32}"), "run.yaml")
    assert named(digest, home) is digest
