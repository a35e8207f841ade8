"""Which Concord this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

PRODUCT: Final = "concord-federation"


def product_version() -> str:
    """Of the installed package; "source" where none is installed."""
    try:
        return version(PRODUCT)
    except PackageNotFoundError:
        return "source"
