"""Tensors between agent and worker: files of the shared law's format (``federation.weights.tensors``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from federation.weights.tensors import Array, encode


def write_new(path: Path, arrays: Mapping[str, Array]) -> None:
    """Creates ``path``, which must not exist, mode 0600: no link that a task left there is followed. Raises UnsupportedTensor."""
    pieces = list(encode(arrays))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
