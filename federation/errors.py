"""One error tree. Each error has a stable code, a sentence for people, a hint (what to do), and a place in the documentation.

    FederationError
    ├── InvalidManifest      a job document is malformed, or is not what was signed
    ├── InvalidIdentity      a key, credential, certificate, ticket, or signature is not good
    ├── PolicyDenied         a rule says no (carries the verdict)
    ├── BudgetExhausted      a privacy budget would be exceeded
    ├── Halted               work was stopped by someone who may
    ├── ProtocolViolation    a peer broke the protocol (carries evidence)
    ├── RoundAborted         a round ended without a sum
    ├── OutOfOrder           an event does not fit the state of the object (carries its story)
    ├── VerificationFailed   a release, a digest, or a signature does not check
    ├── NotFound             no such job, release, or member
    ├── InvalidUsage         a command or setting is wrong
    ├── TaskFailed           the job's own code failed
    └── Unavailable          the only retryable one

One table maps each code to a gRPC status name and a command's exit code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final


class FederationError(Exception):
    """What happened and why (``message``), and what to do (``hint``). Never holds a secret or a row of data."""

    code: ClassVar[str] = "internal"
    remedy: ClassVar[str] = "Report it, with the log of what you ran."
    """what a person can do when an error of this class brings no hint of its own"""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    @property
    def anchor(self) -> str:
        """Where the documentation explains it: a heading in docs/reference/errors.md."""
        return f"docs/reference/errors.md#{self.code}"


class InvalidManifest(FederationError):
    """``field`` is a dotted path such as ``spec.rounds``; ``line`` counts from 1 and is 0 where there is no text."""

    code = "invalid-manifest"
    remedy = "Correct the document; `concord explain job` lists its fields."

    def __init__(self, message: str, *, hint: str = "", field: str = "", line: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.line = line


class InvalidIdentity(FederationError):
    code = "invalid-identity"
    remedy = "Get it anew from whoever signed or issued it; when it stays so, tell them: it may have been altered."


class PolicyDenied(FederationError):
    """``reasons``: each rule that said no, one sentence each."""

    code = "policy-denied"
    remedy = "Ask whoever refused: nothing was done."

    def __init__(self, message: str, *, hint: str = "", reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.reasons = reasons


class BudgetExhausted(FederationError):
    code = "budget-exhausted"
    remedy = "Ask the laboratories whose budget it is: nothing was done."


class Halted(FederationError):
    code = "halted"
    remedy = "Ask whoever halted it; it goes on when they lift the halt."


class ProtocolViolation(FederationError):
    """``check`` names the rule that failed (stable, kebab-case); ``evidence`` are the signed bytes that show it, if any."""

    code = "protocol-violation"
    remedy = "Tell the operator, and keep what was signed: it is evidence."

    def __init__(self, message: str, *, check: str, hint: str = "", evidence: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.check = check
        self.evidence = evidence


class RoundAborted(FederationError):
    code = "round-aborted"
    remedy = "See the job's log, and start it again."


class OutOfOrder(FederationError):
    """``story``: what the object went through, newest last."""

    code = "out-of-order"
    remedy = "See what state it is in with `concord describe`."

    def __init__(self, message: str, *, hint: str = "", story: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.story = story


class VerificationFailed(FederationError):
    code = "verification-failed"
    remedy = "Do not use it. Get it anew; when it stays so, show this to whoever made it."


class NotFound(FederationError):
    code = "not-found"
    remedy = "Check the name: `concord get jobs` lists the jobs."


class InvalidUsage(FederationError):
    code = "invalid-usage"
    remedy = "See the command's --help."


class TaskFailed(FederationError):
    """``exception`` is a class name, ``file`` a path within the bundle; the message of the exception stays in the lab."""

    code = "task-failed"
    remedy = "Correct the task's code, and submit the job again."

    def __init__(
        self, message: str, *, hint: str = "", exception: str = "", file: str = "", line: int = 0, phase: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.exception = exception
        self.file = file
        self.line = line
        self.phase = phase


class Unavailable(FederationError):
    code = "unavailable"
    remedy = "Try again in a minute."


@dataclass(frozen=True, slots=True)
class Mapping:
    grpc_status: str
    exit_code: int


INTERRUPTED_EXIT_CODE: Final = 130

TABLE: Final[dict[str, Mapping]] = {
    "internal": Mapping("INTERNAL", 1),
    "invalid-usage": Mapping("INVALID_ARGUMENT", 2),
    "not-found": Mapping("NOT_FOUND", 3),
    "policy-denied": Mapping("PERMISSION_DENIED", 4),
    "budget-exhausted": Mapping("PERMISSION_DENIED", 4),
    "invalid-manifest": Mapping("INVALID_ARGUMENT", 5),
    "invalid-identity": Mapping("UNAUTHENTICATED", 6),
    "verification-failed": Mapping("DATA_LOSS", 6),
    "protocol-violation": Mapping("FAILED_PRECONDITION", 6),
    "halted": Mapping("FAILED_PRECONDITION", 7),
    "round-aborted": Mapping("ABORTED", 1),
    "out-of-order": Mapping("FAILED_PRECONDITION", 1),
    "task-failed": Mapping("ABORTED", 1),
    "unavailable": Mapping("UNAVAILABLE", 8),
}

ERRORS: Final[dict[str, type[FederationError]]] = {
    kind.code: kind
    for kind in (
        FederationError,
        InvalidUsage,
        NotFound,
        PolicyDenied,
        BudgetExhausted,
        InvalidManifest,
        InvalidIdentity,
        VerificationFailed,
        Halted,
        RoundAborted,
        OutOfOrder,
        TaskFailed,
        Unavailable,
    )
}
"""Codes that travel in a gRPC trailer come back as these classes (ProtocolViolation carries evidence and is rebuilt by hand)."""


def exit_code(error: BaseException) -> int:
    """The exit code of a command that ends with ``error``; 1 for what nobody expected, 130 for Ctrl-C."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_EXIT_CODE
    return TABLE[error.code].exit_code if isinstance(error, FederationError) else 1


def told(error: BaseException) -> list[str]:
    """What a person reads of an error, line by line: what happened, why, what to do, where to read on. No control characters."""
    if not isinstance(error, FederationError):
        return [
            f"error: something unexpected happened: {type(error).__name__}: {plain(str(error))}",
            "  what to do: run it again with CONCORD_DEBUG=1 and report what it prints",
            "  see: docs/reference/errors.md#internal",
        ]
    first, *more = error.message.splitlines() or [""]
    lines = [f"error: {_place(error, first)}{plain(first)}", *(f"  {plain(line)}" for line in more)]
    if isinstance(error, PolicyDenied):
        lines += [f"  because: {plain(reason)}" for reason in error.reasons]
    for number, line in enumerate((error.hint or error.remedy).splitlines()):
        lines.append(f"  what to do: {plain(line)}" if number == 0 else f"    {plain(line)}")
    return [*lines, f"  see: {error.anchor}"]


def plain(text: object) -> str:
    """``text`` on one line, without control characters and without those that turn or hide what follows."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def _place(error: FederationError, message: str) -> str:
    """The field of a job document, unless the sentence already begins with its place."""
    if isinstance(error, InvalidManifest) and error.field and error.field not in message:
        return f"{plain(error.field)}: "
    return ""
