"""What a job's runtime asks for and this node lacks. Nothing is ever installed: the answer goes into the consent."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name


def missing_runtime(python: str, packages: Mapping[str, str]) -> tuple[str, ...]:
    """``python``: a version specifier (">=3.11"); ``packages``: name to specifier ("" for any). What is lacking, and what is there.

    A name's extras ("flwr[simulation]") are not asked for: a node does not simulate.
    """
    lacks = []
    if not _satisfies(python, platform.python_version()):
        lacks.append(f"Python {python} (it has {platform.python_version()})")
    for name, specifier in packages.items():
        plain = name.partition("[")[0].strip()
        wanted = f"{plain}{specifier}"
        try:
            version = metadata.version(canonicalize_name(plain))
        except (metadata.PackageNotFoundError, ValueError):
            lacks.append(wanted)
            continue
        if not _satisfies(specifier, version):
            lacks.append(f"{wanted} (it has {version})")
    return tuple(lacks)


@cache
def runtime_digest() -> str:
    """SHA-256, in hex, of the version of Python and of every installed package: two nodes with one runtime have one digest."""
    installed = {canonicalize_name(item.metadata["Name"]): item.version for item in metadata.distributions()}
    lines = [f"python=={platform.python_version()}", *(f"{name}=={installed[name]}" for name in sorted(installed))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _satisfies(specifier: str, version: str) -> bool:
    """A specifier that cannot be read is not satisfied; local parts of versions ("+cpu") do not count."""
    text = specifier.strip()
    if text and text[0].isdigit():
        text = f"=={text}"
    try:
        return SpecifierSet(text).contains(version, prereleases=True)
    except InvalidSpecifier:
        return False
