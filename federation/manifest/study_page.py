"""docs/reference/study.md, from the schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from federation.manifest.explain import Field, fields, table
from federation.manifest.study import LONGEST, MOST_RUNS, StudyDocument

JOB: Final = "study.spec.job"
VARY: Final = "study.spec.vary"


def study_fields() -> tuple[Field, ...]:
    """Those of a job, which stand below ``study.spec.job``, are left out."""
    return tuple(
        replace(each, path=each.path.replace(f"{VARY}.", f"{VARY}.KEY."))
        for each in fields(StudyDocument, "study")
        if not each.path.startswith(f"{JOB}.")
    )


def reference_page() -> str:
    lines = [
        "# The study document",
        "",
        "Generated from the schema in `federation/manifest/study.py`; a test compares. It is read as strictly as",
        "[the job document](job.md).",
        "",
        "A study asks the members once for many runs of one job. `spec.job` is that job, complete; what is named under `vary` may",
        "differ from run to run, and nothing else:",
        "",
        "```yaml",
        "apiVersion: concord/v1",
        "kind: Study",
        "metadata: {name: digits-search}",
        "spec:",
        "  job: {app: ./digits, dataSet: digits, rounds: 10}",
        "  vary:",
        "    learning-rate: {least: 0.01, most: 1}",
        "    batch-size: {values: [16, 32, 64]}",
        "  runs: 20",
        "  rounds: 220",
        "  bytes: 20Gi",
        "  expires: 2027-01-31T12:00:00Z",
        "```",
        "",
        f"A key takes values of the type that it has in the job: write 1.0 in a run where the job has 0.5. At most {MOST_RUNS}",
        f"runs, and {LONGEST.days} days. The job's own value must lie in its range, and one run at least must fit.",
        "",
        "`concord apply -f study.yaml` submits it; a run is a job document of its own, with `metadata: {study: digits-search}`.",
        "",
        *table(study_fields()),
    ]
    return "\n".join(lines) + "\n"
