"""What a service's log looks like: one JSON object a line, with the service's own names, and the job and round that it is about.

Nothing secret is ever given to a log. Should it happen, a private key and the credentials in a URL are taken out here, as a second
lock on the same door; a test reads what whole federations have said.
"""

from __future__ import annotations

import contextvars
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

Event = MutableMapping[str, Any]
Processor = Callable[[Any, str, Event], Event]
PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)
WORD: Final = re.compile(r"[^\s\"'<>]+")
USER: Final = re.compile(r"[^/@:]*:")
NAMED: Final = re.compile(
    r"(?i)(\b(?:(?:password|passphrase|passwd|token)[\"']?\s*[=:]\s*[\"']?"
    r"|authorization[\"']?\s*[=:]\s*[\"']?(?:basic|bearer)\s+))[^\s\"',;&)\]}]+"
)
"""what is said to be a secret: in a connection string, a ticket, a header"""
REMOVED: Final = "[removed]"


@dataclass(frozen=True, slots=True)
class Current:
    """A field whose value is asked for when the line is written: ``log.bind(round=Current(lambda: machine.round))``."""

    value: Callable[[], object]

    def __structlog__(self) -> object:
        return self.value()


def with_names(names: Mapping[str, str]) -> Processor:
    """Every event says which service said it: its node and member, or the federation of a coordinator."""

    def add(_logger: Any, _method: str, event: Event) -> Event:
        for name, value in names.items():
            event.setdefault(name, value)
        return event

    return add


def about(**names: object) -> contextvars.Context:
    """A context for a task: whatever is logged in it, in whichever room, says these names unless it says others."""
    from structlog.contextvars import bind_contextvars  # it loads an event loop, which the shared law does without

    made = contextvars.copy_context()
    made.run(bind_contextvars, **names)
    return made


def without_secrets(_logger: Any, _method: str, event: Event) -> Event:
    for name, value in event.items():
        event[name] = _cleaned(value)
    return event


def _cleaned(value: object) -> object:
    """Texts at any depth; what JSON has no form for becomes text first, as it would be written."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return clean(value)
        case Current():
            return _cleaned(value.value())
        case list() | tuple() | set() | frozenset():
            return [_cleaned(each) for each in value]
        case Mapping():
            return {clean(str(name)): _cleaned(each) for name, each in value.items()}
    return clean(repr(value))


def clean(text: str) -> str:
    """A text without private keys, credentials in URLs, and what is called a password or a token."""
    plain = PEM.sub(REMOVED, text)
    if "://" in plain and "@" in plain:
        plain = WORD.sub(lambda word: _without_credentials(word[0]), plain)
    return NAMED.sub(rf"\1{REMOVED}", plain)


def _without_credentials(word: str) -> str:
    """Up to the last "@", since people forget to percent-encode. In time that grows with the word, whatever a peer makes of it."""
    end, start = word.rfind("@"), word.find("://")
    while 0 <= start < end:
        user = USER.match(word, start + 3)
        if user is not None and user.end() <= end:
            return f"{word[: start + 3]}{REMOVED}{word[end:]}"
        start = word.find("://", start + 3)
    return word


class Lines(logging.Formatter):
    """For what libraries log: the same form, one object a line."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = dict(names)

    def format(self, record: logging.LogRecord) -> str:
        from structlog.contextvars import get_contextvars

        at = {name: _cleaned(value) for name, value in get_contextvars().items()}
        said: dict[str, object] = {
            **self._names,
            **at,
            "event": "library.said",
            "library": record.name,
            "detail": clean(record.getMessage()),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            said["exception"] = clean(self.formatException(record.exc_info))
        return json.dumps(said)


def speak(names: Mapping[str, str], stream: TextIO) -> None:
    """From now on all that this process says is a line of this form on ``stream``: events, libraries, warnings, and what a thread
    or a destructor dies of."""
    import structlog

    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines(names))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_names(names),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            without_secrets,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    log = structlog.get_logger()

    def thread_died(what: threading.ExceptHookArgs) -> None:
        trace = (what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
        log.error("thread.died", thread=what.thread.name if what.thread else "", exc_info=trace)

    def not_raised(what: Any) -> None:
        trace = (what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
        log.error("error.not-raised", where=str(what.err_msg or ""), exc_info=trace)

    threading.excepthook, sys.unraisablehook = thread_died, not_raised
