"""Names of members, nodes, leads and federations: lower-case DNS labels (RFC 1123), so that they fit a certificate and a URI.

And those of data sets, which a job and a node must write alike.
"""

from __future__ import annotations

import re
from typing import Final

from federation.errors import InvalidIdentity

LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
JURISDICTION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
DATA_SET: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
MAX_TITLE: Final = 200

LABEL_RULE: Final = "a lower-case DNS label: up to 63 letters, digits and hyphens, with a letter or digit at both ends"
DATA_SET_RULE: Final = (
    "up to 63 lower-case letters, digits, dots, hyphens and underscores, with a letter or digit at both ends"
)
JURISDICTION_RULE: Final = "an ISO 3166 code in capitals, such as FR, KE or US-CA"


def checked_label(value: object, what: str) -> str:
    """Raises InvalidIdentity when ``value`` is not a lower-case DNS label."""
    if not isinstance(value, str) or not LABEL.fullmatch(value):
        raise InvalidIdentity(
            f"{what} {str(value)[:80]!r} is not a valid name.",
            hint="Use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
        )
    return value


def checked_jurisdiction(value: object) -> str:
    """Raises InvalidIdentity when ``value`` is not shaped like an ISO 3166 code."""
    if not isinstance(value, str) or not JURISDICTION.fullmatch(value):
        raise InvalidIdentity(
            f"{str(value)[:80]!r} is not a jurisdiction.",
            hint="Use an ISO 3166 code such as FR, KE or US-CA, in capitals.",
        )
    return value


def checked_title(value: object, what: str) -> str:
    """A name for people: printable text without line breaks. Raises InvalidIdentity."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TITLE or not value.isprintable():
        raise InvalidIdentity(
            f"{what} is empty, too long, or not printable.", hint=f"Use up to {MAX_TITLE} characters."
        )
    return value
