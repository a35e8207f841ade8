"""What a job's runtime asks for and this node lacks. Nothing is ever installed: the answer goes into the consent."""

from __future__ import annotations

from collections.abc import Mapping


def missing_runtime(python: str, packages: Mapping[str, str]) -> tuple[str, ...]:
    """``python``: a version specifier (">=3.11"); ``packages``: name to specifier ("" for any). One sentence a lack."""
    raise NotImplementedError
