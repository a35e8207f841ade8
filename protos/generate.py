"""Regenerates ``federation/v1`` from ``protos``: ``python protos/generate.py [OUTPUT]``. A test compares the result."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent


def generate(output: Path) -> None:
    """Writes message classes, gRPC stubs and their type stubs under ``output``. Raises SystemExit if protoc refuses."""
    # protoc finds the type-stub plug-ins by PATH, which does not lead into an environment that is not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={output}",
        f"--grpc_python_out={output}",
        f"--mypy_out={output}",
        f"--mypy_grpc_out={output}",
        *sources,
    ]
    if code := protoc.main(arguments):
        raise SystemExit(code)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent)
