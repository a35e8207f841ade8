"""Workers of the runner's tests, halted."""

from tests.unit.runner.conftest import sandbox_kind, scene

__all__ = ["sandbox_kind", "scene"]
