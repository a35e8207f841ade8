"""Links of the pages that lead out of docs/: on the site they name the file in the repository, which is not part of it."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

LINK: Final = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - mkdocs names them so
    """A hook of mkdocs."""
    here = posixpath.dirname(page.file.src_uri)

    def shown(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, found[2]))
        if not target.startswith("../"):
            return found[0]
        return f"{found[1]} (`{target.removeprefix('../')}`)"

    return LINK.sub(shown, markdown)
