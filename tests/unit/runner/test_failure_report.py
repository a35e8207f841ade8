"""A worker's report is untrusted: nothing in it reaches the lead unless all members have it in the bundle already."""

from pathlib import Path

import pytest

from federation.errors import TaskFailed, Unavailable
from node_agent.runner.failure import CHECKS, broken_task, for_the_lead, task_failed

LOG = Path("task.log")


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/app.py").write_text("class RowRefused(Exception):\n    pass\n# class Commented\n")
    (tmp_path / "outside").symlink_to("/etc/hostname")
    return tmp_path


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["RowRefused", "Exception"], "RowRefused"),
        (["patient_4711", "RowRefused", "Exception"], "RowRefused"),
        (["patient_4711", "KeyError", "LookupError"], "KeyError"),
        (["patient_4711"], "Exception"),
        (["Commented"], "Exception"),
        (["OutOfMemoryError", "RuntimeError"], "OutOfMemoryError"),
        ([7, None, {}], "Exception"),
        ("RowRefused", "Exception"),
        (None, "Exception"),
    ],
)
def test_a_class_is_pythons_or_the_bundles_or_its_nearest_base(bundle, classes, expected):
    error = task_failed({"classes": classes, "file": "pkg/app.py", "line": 2}, "train", bundle, LOG)
    assert (error.exception, error.file, error.line) == (expected, "pkg/app.py", 2)
    assert "patient" not in f"{error.message}{error.hint}"


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("pkg/app.py", 3, ("pkg/app.py", 3)),
        ("pkg/app.py", 4711, ("pkg/app.py", 0)),
        ("pkg/app.py", -1, ("pkg/app.py", 0)),
        ("pkg/app.py", True, ("", 0)),
        ("pkg/app.py", "3", ("", 0)),
        ("patient-4711.py", 1, ("", 0)),
        ("../secret", 1, ("", 0)),
        ("/etc/hostname", 1, ("", 0)),
        ("outside", 1, ("", 0)),
        ("pkg", 1, ("", 0)),
        (["x"], 1, ("", 0)),
        ("x\0y", 1, ("", 0)),
    ],
)
def test_a_place_is_a_line_of_a_file_of_the_bundle(bundle, file, line, expected):
    error = task_failed({"classes": ["KeyError"], "file": file, "line": line}, "train", bundle, LOG)
    assert (error.file, error.line) == expected


def test_an_unknown_check_is_no_text_for_the_lead(bundle):
    error = task_failed({"check": "patient 4711", "classes": []}, "train", bundle, LOG)
    assert "patient" not in f"{error.message}{error.hint}"
    error = task_failed({"check": ["no-weight"], "classes": []}, "train", bundle, LOG)
    assert error.exception == "Exception"


@pytest.mark.parametrize("check", CHECKS)
def test_what_breaks_the_contract_is_told_to_the_lead_with_what_to_do(bundle, check):
    error = task_failed({"check": check}, "load", bundle, LOG)
    assert for_the_lead(error) == f"{CHECKS[check][0]}. {CHECKS[check][1]}"


def test_no_other_hint_is_told_to_the_lead():
    """It may name an array, a path, or what else only the lab knows."""
    for error in (
        TaskFailed("The trained model has arrays that the model does not have.", hint="patient-4711", phase="reply"),
        Unavailable("The worker process died in train.", hint="patient-4711"),
        broken_task("it took longer than 3 s", "train", exception="Timeout", hint="patient-4711"),
    ):
        assert "patient" not in for_the_lead(error)
