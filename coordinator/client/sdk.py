"""The SDK: ``with Federation.connect(home) as federation: federation.submit("job.yaml")``."""

from __future__ import annotations

from pathlib import Path


class Federation:
    """A session with a coordinator, over mutual TLS with the certificate that ``concord login`` left in ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
