"""The log for people: one page that needs nothing beside it, and the same as a document for programs.

Every text is escaped where it enters the page (jinja2's autoescape); the page has no script and loads nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from coordinator.client.examined import Examined
from federation.audit.entry import Entry

SECTIONS: Final = (
    (
        "Members and rules",
        ("founding", "charter", "admission", "suspension", "proposal", "vote", "enrolment", "catalogue"),
    ),
    ("Jobs", ("submission", "job-state", "roster")),
    ("Consents", ("consent", "revocation")),
    ("Rounds", ("round-closed", "certificate")),
    ("Halts", ("halt", "lift")),
    ("Releases", ("release", "approval", "recall")),
    ("What members did wrong", ("misconduct",)),
)
SHORT: Final = 16


def document_of(done: Examined, entries: Sequence[tuple[int, Entry]], job: str) -> dict[str, Any]:
    """What ``--json`` prints."""
    found = done.found
    return {
        "log": str(done.trust.key),
        "keyNamedByCharter": done.trust.named,
        "keyIs": done.trust.whence,
        "size": found.head.size,
        "root": found.head.root.hex(),
        "signed": moment(found.head.time * 1000),
        "checks": list(done.checks),
        "unchecked": list(done.unchecked),
        "witnesses": sorted(found.witnesses),
        "job": job,
        "entries": [
            {
                "number": number,
                "time": moment(entry.time),
                "kind": entry.kind,
                "fields": dict(entry.fields),
                "document": None if entry.document is None else entry.document.hex(),
            }
            for number, entry in chosen(entries, job)
        ],
    }


def page(done: Examined, entries: Sequence[tuple[int, Entry]], job: str) -> str:
    """The HTML page."""
    from jinja2 import Environment, StrictUndefined

    rows, found = chosen(entries, job), done.found
    source = files("coordinator.client").joinpath("audit_report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sections = [
        (title, [_row(number, entry) for number, entry in rows if entry.kind in kinds]) for title, kinds in SECTIONS
    ]
    return environment.from_string(source).render(
        key=str(done.trust.key),
        whence=done.trust.whence,
        size=found.head.size,
        root=found.head.root.hex(),
        signed=moment(found.head.time * 1000),
        checks=done.checks,
        unchecked=done.unchecked,
        job=job,
        shown=len(rows),
        sections=[(title, lines, Counter(line["kind"] for line in lines)) for title, lines in sections if lines],
        timeline=[_row(number, entry) for number, entry in rows],
    )


def chosen(entries: Sequence[tuple[int, Entry]], job: str) -> list[tuple[int, Entry]]:
    """Those about a job whose digest begins so; all, when none is named."""
    return [each for each in entries if not job or each[1].fields.get("job", "").startswith(job)]


def _row(number: int, entry: Entry) -> dict[str, Any]:
    return {
        "number": number,
        "time": moment(entry.time),
        "kind": entry.kind,
        "says": sentence(entry),
        "job": entry.fields.get("job", ""),
        "document": "" if entry.document is None else entry.document.hex(),
    }


def sentence(entry: Entry) -> str:
    """An entry in words."""
    said = {name: _short(value) for name, value in entry.fields.items()}
    match entry.kind:
        case "founding":
            return f"The federation {said['federation']} has its roll, version {said.get('version', '1')}."
        case "enrolment" if "node" in said:
            return f"The node {said['node']} of {said['member']} came in."
        case "enrolment":
            return f"A {said['party']} came in."
        case "submission":
            return f"Job {said['job']} was submitted."
        case "job-state":
            return f"Job {said['job']} is {said['state']}."
        case "consent":
            return f"{said['member']} ({said['node']}) {said['state']} job {said['job']}."
        case "revocation":
            return f"{said['member']} took back its consent to job {said['job']}."
        case "roster":
            return f"Job {said['job']} has the roster of epoch {said['epoch']}."
        case "round-closed":
            return f"Round {said['round']}, attempt {said['attempt']}, of job {said['job']} was {said['outcome']}."
        case "certificate":
            return f"The members certified the model after round {said['round']} of job {said['job']}."
        case "misconduct":
            return f"{said['member']} broke a rule of job {said['job']} under its signature: {said['check']}."
        case _:
            return ", ".join(f"{name} {value}" for name, value in said.items()) or entry.kind


def _short(value: str) -> str:
    return f"{value[:SHORT]}…" if len(value) == 64 else value


def moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
