"""Variables of the environment that begin with CONCORD_: one that nothing reads is a mistake that would go unseen.

A database that is not used, say, or a limit that does not hold. The environment is a parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from federation.errors import InvalidUsage

OURS: Final = "CONCORD_"
TESTS: Final = "CONCORD_TEST_"
ELSEWHERE: Final = frozenset(
    {
        "CONCORD_HOME",
        "CONCORD_DEBUG",
        "CONCORD_PASSPHRASE_FILE",
        "CONCORD_PASSPHRASE_FD",
        # compose.yaml asks for these, in the shell in which it is started
        "CONCORD_BASE_DIGEST",
        "CONCORD_FEDERATION",
        "CONCORD_MEMBER",
        "CONCORD_NODE",
    }
)
"""what is read by others than a service"""
SERVICES: Final = ("CONCORD_COORDINATOR_", "CONCORD_NODE_")


def refuse_unknown(
    environment: Mapping[str, str], service: str, prefix: str, known: Collection[str], hint: str
) -> None:
    """``service``: what starts here, whose variables begin with ``prefix`` and are ``known``, in capitals.

    Raises InvalidUsage for one that is none, of whatever spelling, and for one that is there in two spellings. No value is shown.
    """
    seen: dict[str, str] = {}
    others = tuple(each for each in SERVICES if each != prefix)
    for name in sorted(name for name in environment if name.upper().startswith(OURS)):
        plain = name.upper()
        if plain in seen and plain in known:
            raise InvalidUsage(
                f"The environment has both {seen[plain]} and {name}, which are one setting.", hint="Unset one of them."
            )
        seen[plain] = name
        if plain in known or plain in ELSEWHERE or plain.startswith((TESTS, *others)):
            continue
        raise InvalidUsage(f"The environment variable {name} is no setting of {service}.", hint=hint)
