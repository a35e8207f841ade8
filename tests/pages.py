"""What stands in fences in the pages of the documentation."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Final

FENCE: Final = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
FILE: Final = re.compile(r"# ([\w./-]+\.(?:yaml|toml|py))\n")


@dataclass(frozen=True, slots=True)
class Fence:
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that the reader is to write: its name stands in a comment in the first line."""
        found = FILE.match(self.text)
        return found[1] if found and self.language not in ("", "sh") else ""

    @property
    def lines(self) -> list[str]:
        """Each command, whole, without what is said beside it; documents that a shell reads until a word stay in one."""
        if "<<" in self.text:
            return [self.text]
        joined = re.sub(r"\\\n *", "", self.text)
        return [line for text in joined.splitlines() if (line := re.sub(r"\s+# .*$", "", text).strip())]


def fences(text: str) -> list[Fence]:
    return [Fence(language, textwrap.dedent(body)) for _, language, body in FENCE.findall(text)]


def without_fences(text: str) -> str:
    return FENCE.sub("", text)
