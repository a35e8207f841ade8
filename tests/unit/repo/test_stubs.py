"""The generated stubs that are checked in are what the protos say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STUBS = Path("federation", "v1")


def test_regenerating_the_stubs_changes_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", tmp_path], check=True, capture_output=True)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / STUBS).iterdir()}
    kept = {path.name: path.read_bytes() for path in (ROOT / STUBS).glob("*_pb2*")}
    assert sorted(kept) == sorted(fresh), "regenerate with: python protos/generate.py"
    assert [name for name, data in fresh.items() if kept[name] != data] == []
