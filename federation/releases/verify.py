"""Verifies a release from its files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from federation.releases.listing import Content, read_folder


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str
    """one sentence: what was found, or what is wrong"""


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)


def verify(files: Mapping[str, Content], trusted_roll: bytes | None = None) -> Report:
    raise NotImplementedError


def verify_folder(folder: Path, trusted_roll: bytes | None = None) -> Report:
    return verify(read_folder(folder), trusted_roll)
