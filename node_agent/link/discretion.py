"""What a text that leaves this node does not say: where things lie at the lab, and which way its words take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from federation.route import Route


@dataclass(frozen=True, slots=True)
class Discretion:
    """For errors of this node that the lead or the coordinator is told. Its own log has the words as they are."""

    words: tuple[tuple[str, str], ...]

    @staticmethod
    def of(home: Path, data: Iterable[str], route: Route) -> Discretion:
        """``data``: where the data sets lie."""
        words = [(f"{home}/", ""), (str(home), "the node's home")]
        words += [(path, "its place") for path in data if len(path) > 1 and Path(path).is_absolute()]
        if route.proxy:
            words += [(route.place, route.address), (route.shown, "this lab's proxy")]
        return Discretion(tuple(sorted(words, key=lambda word: -len(word[0]))))  # a folder after what lies in it

    def __call__(self, text: str) -> str:
        for word, instead in self.words:
            text = text.replace(word, instead)
        return text
