"""`python -m examples.heart --data FOLDER`: FLamby's published table, through a real coordinator and four real nodes.

The four centres of UCI Heart Disease are four members; each job trains under secure aggregation, and its verified release is
scored as FLamby scores. The last line on stdout is JSON: method to score, the mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.local_federation import DataSet, LocalFederation, Member, end_on_signals, forget_settings
from federation.errors import (
    INTERRUPTED_EXIT_CODE,
    FederationError,
    InvalidUsage,
    NotFound,
    Unavailable,
    VerificationFailed,
    exit_code,
    told,
)
from models.heart_disease.prepare import Centre, FileProblem, MissingFile, read_centres, write
from models.heart_disease.score import APP, JOBS, PUBLISHED, SEEDS, TOLERANCE, score

PLACES: Mapping[str, tuple[str, str]] = {
    "cleveland": ("Cleveland Clinic Foundation", "US"),
    "hungarian": ("Hungarian Institute of Cardiology, Budapest", "HU"),
    "switzerland": ("University Hospitals Zurich and Basel", "CH"),
    "va": ("V.A. Medical Center, Long Beach", "US"),
}
JOB_SECONDS = 180.0


def job_document(method: str, seed: int) -> dict[str, Any]:
    """The job of models/heart_disease/jobs, for one seed."""
    document: dict[str, Any] = yaml.safe_load((JOBS / f"{method.lower()}.yaml").read_text())
    document["metadata"]["name"] += f"-{seed}"
    spec = document["spec"]
    spec["app"] = str(APP)
    spec["model"] = {"seed": seed}
    spec["runConfig"] = {**spec["runConfig"], "seed": seed}
    return document


@contextmanager
def federation(folder: Path, centres: Mapping[str, Centre]) -> Iterator[LocalFederation]:
    """The four centres as four members, up and running in ``folder``."""
    members = []
    for centre, rows in centres.items():
        write(rows, folder / "data" / centre)
        title, jurisdiction = PLACES[centre]
        data = {
            "heart-disease": DataSet(folder / "data" / centre, len(rows.train.labels), ("heart-disease", "tabular"))
        }
        members.append(Member(centre, title, jurisdiction, data))
    with LocalFederation(folder / "federation", "heart", members) as local:
        yield local


def release_of(local: LocalFederation, folder: Path, method: str, seed: int) -> Path:
    """Submits the job, waits for it, and returns the fetched and verified release."""
    document = job_document(method, seed)
    name = document["metadata"]["name"]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    with local.client() as client:
        client.submit(path)
        deadline = time.monotonic() + JOB_SECONDS
        job = client.job(name)
        for job in client.watch(name):  # noqa: B007 - the last view is judged below
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{name} took longer than {JOB_SECONDS:.0f} s.", hint=f"See the logs in {local.folder}."
                )
        if job.state != "finished":
            raise FederationError(f"{name} did not finish: {job.reason}", hint=f"See the logs in {local.folder}.")
        release = folder / f"release-{name}"
        client.fetch_release(name, release)
    return release


def scores_of(
    centres: Mapping[str, Centre], methods: Sequence[str], seeds: Sequence[int], console: Console
) -> dict[str, list[float]]:
    """Method -> the score of each seed's release. What a failure leaves stays, for its logs; else no row is left behind."""
    folder = Path(tempfile.mkdtemp(prefix="concord-heart-"))
    found: dict[str, list[float]] = {method: [] for method in methods}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("founding the federation", total=len(methods) * len(seeds))
            with federation(folder, centres) as local:
                for method in methods:
                    for seed in seeds:
                        progress.update(bar, description=f"{method}, seed {seed}")
                        release = release_of(local, folder, method, seed)
                        found[method].append(score(release / "model.safetensors", centres))
                        progress.advance(bar)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
    return found


def read(data: Path) -> dict[str, Centre]:
    """Raises NotFound for a file that is not there, VerificationFailed for one that is another."""
    try:
        return read_centres(data)
    except FileProblem as error:
        kind = NotFound if isinstance(error, MissingFile) else VerificationFailed
        raise kind(str(error), hint=error.hint) from None


def missed(means: Mapping[str, float]) -> list[str]:
    """The methods that are farther from print than TOLERANCE."""
    return [method for method, mean in means.items() if abs(mean - PUBLISHED[method]) > TOLERANCE]


def show(found: Mapping[str, Sequence[float]], console: Console) -> None:
    table = Table(title="Mean accuracy over the four centres' test rows", title_justify="left")
    for name in ("method", "here", "deviation", "published", "difference"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method, scores in found.items():
        mean, printed = float(np.mean(scores)), PUBLISHED[method]
        table.add_row(method, f"{mean:.4f}", f"{np.std(scores):.4f}", f"{printed:.4f}", f"{mean - printed:+.4f}")
    console.print(table)


def listed(words: Sequence[str]) -> list[str]:
    """Separated by commas or by blanks, each once."""
    return list(dict.fromkeys(part for word in words for part in word.split(",") if part))


def chosen(methods: Sequence[str], seeds: Sequence[str]) -> tuple[list[str], list[int]]:
    """Raises InvalidUsage for what is no method or no seed, and for none at all."""
    names, numbers = listed(methods), listed(seeds)
    unknown = sorted(set(names) - set(PUBLISHED))
    if unknown or not names:
        raise InvalidUsage(
            f"There is no method {', '.join(unknown)}." if unknown else "No method is named.",
            hint=f"Name one or more of {', '.join(PUBLISHED)}.",
        )
    if not numbers or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise InvalidUsage("A seed is a whole number from 0 on.", hint="For the published table leave --seeds out.")
    return names, [int(number) for number in numbers]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make heart", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the four processed.*.data files")
    parser.add_argument("--methods", nargs="+", default=list(PUBLISHED), help=f"default: {','.join(PUBLISHED)}")
    parser.add_argument("--seeds", nargs="+", default=[str(seed) for seed in SEEDS], help="default: the published five")
    arguments = parser.parse_args()

    forget_settings()
    end_on_signals()
    console = Console(stderr=True)
    code = 0
    try:
        methods, seeds = chosen(arguments.methods, arguments.seeds)
        found = scores_of(read(arguments.data.expanduser()), methods, seeds, console)
        means = {method: float(np.mean(scores)) for method, scores in found.items()}
        show(found, console)
        if tuple(seeds) != SEEDS:
            console.print(f"What FLamby printed is the mean over the seeds {', '.join(map(str, SEEDS))}.")
        elif far := missed(means):
            console.print(f"{', '.join(far)}: farther than {TOLERANCE} from what FLamby printed")
            code = exit_code(VerificationFailed(""))
        else:
            console.print(f"every method lies within {TOLERANCE} of what FLamby printed")
    except KeyboardInterrupt:
        print("interrupted: every process was ended", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except FederationError as error:
        print("\n".join(told(error)), file=sys.stderr)
        return exit_code(error)
    print(json.dumps({method: round(mean, 4) for method, mean in means.items()}))
    return code


if __name__ == "__main__":
    sys.exit(main())
