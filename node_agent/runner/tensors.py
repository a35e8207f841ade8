"""Tensors between agent and worker: safetensors files, read as memory maps, in the order of the model's record.

The format is https://github.com/huggingface/safetensors (format section). Written here, and not by its library,
because the library sorts by dtype and name: a Flower app that works with lists of arrays depends on the order. The
order is that of the data, of the header, and of the metadata entry ``order``. Imports numpy only: the worker loads it
before the job's code.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HEADER_LIMIT: Final = 16 << 20
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES: Final = {dtype: code for code, dtype in DTYPES.items()}


class UnsupportedTensor(ValueError):
    """A tensor whose type NumPy or this file format cannot hold, such as bfloat16."""


def code_of(dtype: np.dtype[Any]) -> str:
    try:
        return _CODES[dtype.newbyteorder("<")]
    except KeyError:
        raise UnsupportedTensor(f"arrays of {dtype} cannot travel; float32, float16 and integers can") from None


def write_tensors(path: Path, arrays: Mapping[str, Array]) -> None:
    """Creates ``path``, which must not exist, mode 0600; arrays in the mapping's order."""
    header: dict[str, Any] = {"__metadata__": {"order": json.dumps(list(arrays))}}
    ready, offset = [], 0
    for name, array in arrays.items():
        code = code_of(array.dtype)
        flat = np.ascontiguousarray(array, dtype=DTYPES[code])
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + flat.nbytes]}
        offset += flat.nbytes
        ready.append(flat)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for flat in ready:
            if flat.nbytes:
                file.write(flat.reshape(-1).view(np.uint8).data)


def read_tensors(path: Path) -> dict[str, Array]:
    """Read-only views of the mapped file, in order; ValueError when it is not a sound safetensors file."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise ValueError(f"{path.name} is too short for a safetensors file")
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    length = int.from_bytes(data[:8], "little")
    if length > min(HEADER_LIMIT, size - 8):
        raise ValueError(f"{path.name} has a header of {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        by_data = sorted(header, key=lambda name: header[name]["data_offsets"][0])
        names = json.loads(metadata["order"]) if "order" in metadata else by_data
        if sorted(names) != sorted(header):
            raise ValueError("the order names other entries than there are")
        return {name: _view(data, 8 + length, size, header[name]) for name in names}
    except UnsupportedTensor:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path.name} is not a sound safetensors file: {error}") from None


def _view(data: mmap.mmap, start: int, size: int, entry: dict[str, Any]) -> Array:
    if entry["dtype"] not in DTYPES:
        raise UnsupportedTensor(f"arrays of {entry['dtype']} cannot be read with NumPy")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("an entry's shape or place is not of whole numbers")
    count = math.prod(shape)
    if not begin <= end <= size - start or end - begin != count * dtype.itemsize:
        raise ValueError("an entry's bytes do not fit its shape")
    return np.frombuffer(data, dtype=dtype, count=count, offset=start + begin).reshape(shape)
