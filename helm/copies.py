"""Copies alerts, rules and dashboards into the charts, which can hold no files from elsewhere; the source is observability/.

Run it after a change there: python helm/copies.py. A test compares.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "observability"
CHARTS = ("coordinator", "node-agent")


def copies() -> dict[Path, Path]:
    """Each copy with its source."""
    found = [*sorted((SOURCE / "rules").glob("*.yaml")), *sorted((SOURCE / "dashboards").glob("*.json"))]
    return {
        ROOT / "helm" / chart / "files" / "observability" / path.relative_to(SOURCE): path
        for chart in CHARTS
        for path in found
    }


def main() -> None:
    for chart in CHARTS:
        shutil.rmtree(ROOT / "helm" / chart / "files" / "observability", ignore_errors=True)
    for copy, source in copies().items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


if __name__ == "__main__":
    main()
