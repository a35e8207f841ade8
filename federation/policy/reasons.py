"""The word that a reason of a denial begins with: of the policies' vocabulary, or one of the few that are no rule's.

Reasons are sentences, and whoever writes them may write anything. What is counted by reason is counted by these words alone.
"""

from __future__ import annotations

import re
from typing import Final

from federation.policy.vocabulary import BY_NAME

OWN: Final = frozenset({"budget", "consent", "data", "privacy", "runtime", "study"})
"""what a node finds beside its rules: what is left of a privacy budget, a person's no, data, noise, software, a study"""
OTHER: Final = "other"
WORDS: Final = frozenset(BY_NAME) | OWN | {OTHER}
BEGINNING: Final = re.compile(r"(?:rules\.)?([A-Za-z]{1,40})(?: set [^:]{1,200})?:")
"""``rules.maxRounds: ...``, ``budget: ...``; ``data set hearts: ...`` is about data, too"""


def word_of(reason: str) -> str:
    """``OTHER`` for a reason that begins with none of them."""
    match = BEGINNING.match(reason)
    return match[1] if match is not None and match[1] in WORDS else OTHER
