"""What a lead may learn of a task's failure: the class of the exception, the file, the line, the phase. Never its
message.

A worker's report is untrusted: code that raises ``type(patient_name, (Exception,), {})`` would send a name as a
class. So the report is read against the bundle, which all members have: a class must be Python's own or one that the
bundle's text defines (else its nearest base that is), a file must be one of its files, a line must exist there.
"""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any, Final

from federation.errors import FederationError, TaskFailed

DEFINED: Final = re.compile(rb"^\s*class\s+([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)
LIBRARIES: Final = frozenset({"OutOfMemoryError", "LinAlgError", "UnsupportedTensor", "SafetensorError"})
BUILTINS: Final = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)

CHECKS: Final[dict[str, tuple[str, str]]] = {
    "not-a-client-app": (
        "the app's clientapp reference is not a Flower ClientApp",
        'Check [tool.flwr.app.components] clientapp = "package.module:app" in the app\'s pyproject.toml.',
    ),
    "client-fn": (
        "the app is of Flower's older kind (client_fn)",
        "Write it with @app.train() and @app.evaluate().",
    ),
    "no-train": ("the app has no @app.train() function", "Register one without an action name."),
    "bad-reference": ("a reference is not of the form package.module:name", "Correct it in the job or the app."),
    "bad-factory": (
        "the model factory gave no tensors",
        "It must give an nn.Module, an ArrayRecord, a mapping of arrays, or a list of arrays.",
    ),
    "not-a-message": (
        "the app returned something else than a Flower Message",
        "Return Message(content, reply_to=...).",
    ),
    "error-reply": ("the app answered with an error or without content", "Return Message(content, reply_to=...)."),
    "array-records": ("the reply does not hold exactly one ArrayRecord", "Put all weights into one ArrayRecord."),
    "metric-records": ("the reply does not hold exactly one MetricRecord", "Put all figures into one MetricRecord."),
    "no-weight": (
        "the reply's MetricRecord lacks the weight",
        "Add it under the job's weightKey (num-examples by default), in training replies.",
    ),
    "bad-weight": ("the reply's weight is not a whole number of at least 1", "Report how many examples were used."),
    "dtype": (
        "an array is of a type that cannot travel",
        "Give float32, float16, float64, integer, or bool arrays; cast bfloat16 to float32.",
    ),
    "reply-size": ("the reply is larger than it may be", "Return arrays of the model's own shapes, and few metrics."),
    "reply-file": ("the reply's file of arrays is missing or not a plain file", "Leave the worker's files alone."),
}
"""What the worker refused in a reply: what happened, and what to do. The keys are ``flower_app.Refused.check``."""


ADVICE: Final = frozenset(hint for _what, hint in CHECKS.values())


def for_the_lead(error: FederationError) -> str:
    """The agent's own sentence, with what to do where that is one of ours; a hint may name what only the lab knows."""
    phase = error.phase if isinstance(error, TaskFailed) else ""
    text = error.message.removeprefix(f"The task failed in {phase}: ")
    return f"{text} {error.hint}" if error.hint in ADVICE else text


def task_failed(report: dict[str, Any], phase: str, bundle: Path, log: Path) -> TaskFailed:
    """The error of a worker's report; anything in it that is not as expected is left out."""
    check = report.get("check")
    file, line = _place(report, bundle)
    if isinstance(check, str) and check in CHECKS:
        what, hint = CHECKS[check]
        return TaskFailed(f"The task failed in {phase}: {what}.", hint=hint, file=file, line=line, phase=phase)
    exception = _class(report, bundle)
    where = f" at {file}:{line}" if file else ""
    return TaskFailed(
        f"The task failed in {phase}: {exception}{where}.",
        hint=f"Its message may hold data and stays in the lab: see {log.name} on the node.",
        exception=exception,
        file=file,
        line=line,
        phase=phase,
    )


def broken_task(what: str, phase: str, *, exception: str, hint: str) -> TaskFailed:
    """A failure that the agent saw itself, such as a timeout."""
    return TaskFailed(f"The task failed in {phase}: {what}.", hint=hint, exception=exception, phase=phase)


def _class(report: dict[str, Any], bundle: Path) -> str:
    names = report.get("classes")
    known = BUILTINS | LIBRARIES
    defined: frozenset[str] | None = None
    for name in names if isinstance(names, list) else []:
        if not isinstance(name, str):
            continue
        if name in known:
            return name
        defined = _defined(bundle) if defined is None else defined
        if name in defined:
            return name
    return "Exception"


def _defined(bundle: Path) -> frozenset[str]:
    found: set[str] = set()
    for path in bundle.rglob("*.py"):
        if path.is_file() and not path.is_symlink():
            found.update(word.decode() for word in DEFINED.findall(path.read_bytes()))
    return frozenset(found)


def _place(report: dict[str, Any], bundle: Path) -> tuple[str, int]:
    file, line = report.get("file"), report.get("line")
    if not isinstance(file, str) or not file or type(line) is not int:
        return "", 0
    path = bundle / file
    if ".." in path.parts or not path.is_relative_to(bundle) or path.is_symlink() or not path.is_file():
        return "", 0
    lines = path.read_bytes().count(b"\n") + 1
    return file, line if 0 < line <= lines else 0
