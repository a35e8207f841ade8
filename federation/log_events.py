"""What a service's log looks like: one JSON object a line, with the service's own names, and the job and round that it is about.

Nothing secret is ever given to a log. Should it happen, a private key and the credentials in a URL are taken out here, as a second
lock on the same door; a test reads what whole federations have said.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

Event = MutableMapping[str, Any]
Processor = Callable[[Any, str, Event], Event]
PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)
CREDENTIALS: Final = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*(?=@)")
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


def without_secrets(_logger: Any, _method: str, event: Event) -> Event:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = clean(value)
    return event


def clean(text: str) -> str:
    """A text without private keys and credentials in URLs."""
    return CREDENTIALS.sub(REMOVED, PEM.sub(REMOVED, text))


class Lines(logging.Formatter):
    """For what libraries log: the same form, one object a line."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = dict(names)

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            **self._names,
            "event": "library.said",
            "library": record.name,
            "detail": clean(record.getMessage()),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            said["exception"] = clean(self.formatException(record.exc_info))
        return json.dumps(said)
