"""Reads typed fields out of an opened document; anything missing, unknown or of another type is an InvalidIdentity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from federation.errors import InvalidIdentity


def exact(document: object, what: str, *names: str) -> Mapping[str, Any]:
    """``document`` as an object with exactly these fields."""
    if not isinstance(document, dict):
        raise InvalidIdentity(f"The {what} is not an object.")
    missing, unknown = sorted(set(names) - set(document)), sorted(set(document) - set(names))
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)[:200]}"] * bool(
            unknown
        )
        raise InvalidIdentity(f"The {what} {' and '.join(parts)}.", hint="It may come from another version of Concord.")
    return document


def text(value: object, what: str, limit: int = 1000) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise InvalidIdentity(f"The {what} is not a text of at most {limit} characters.")
    return value


def texts(value: object, what: str, limit: int = 1000) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > limit:
        raise InvalidIdentity(f"The {what} is not a list.")
    return tuple(text(item, what) for item in value)


def whole(value: object, what: str, low: int = 0, high: int = 2**53 - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidIdentity(f"The {what} is not a whole number from {low} to {high}.")
    return value


def hexadecimal(value: object, what: str, length: int) -> bytes:
    if isinstance(value, str) and len(value) == 2 * length and all(digit in "0123456789abcdef" for digit in value):
        return bytes.fromhex(value)
    raise InvalidIdentity(f"The {what} is not {2 * length} lower-case hex digits.")


def moment(value: object, what: str) -> datetime:
    """RFC 3339 in UTC, to the second, in the one way that ``moment_text`` writes it."""
    try:
        read = datetime.strptime(text(value, what), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        read = None
    if read is None or moment_text(read) != value:
        raise InvalidIdentity(f"The {what} is not a time such as 2026-01-31T12:00:00Z.")
    return read


def moment_text(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
