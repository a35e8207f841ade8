"""Purpose codes: the 17 Sustainable Development Goals of the United Nations and their 169 targets, as ``sdg:3`` and ``sdg:3.4``.

Numbers of targets as in resolution A/RES/71/313 (the global indicator framework): each goal has numbered targets, and means of
implementation under letters, except goal 17, which numbers them through.
"""

from __future__ import annotations

import re
from typing import Final

TARGETS: Final = (
    *((5, 2), (5, 3), (9, 4), (7, 3), (6, 3), (6, 2), (3, 2), (10, 2), (5, 3)),
    *((7, 3), (7, 3), (8, 3), (3, 2), (7, 3), (9, 3), (10, 2), (19, 0)),
)
"""of goals 1 to 17: how many numbered targets, how many with letters"""
_CODE: Final = re.compile(r"sdg:([1-9][0-9]?)(?:\.([1-9][0-9]?|[a-d]))?")
CODES: Final = frozenset(
    code
    for goal, (numbered, lettered) in enumerate(TARGETS, 1)
    for code in (
        f"sdg:{goal}",
        *(f"sdg:{goal}.{number}" for number in range(1, numbered + 1)),
        *(f"sdg:{goal}.{letter}" for letter in "abcd"[:lettered]),
    )
)


def checked_code(code: str) -> str:
    """Raises ValueError for what is no goal and no target."""
    if not _CODE.fullmatch(code):
        raise ValueError("is no goal or target of the United Nations, such as sdg:3 or sdg:3.4")
    if code not in CODES:
        raise ValueError("is no goal or target: there are 17 goals, with 169 targets")
    return code


def covers(allowed: str, code: str) -> bool:
    """A goal covers its targets; a target covers itself alone, and not its goal."""
    return code == allowed or ("." not in allowed and code.startswith(f"{allowed}."))
