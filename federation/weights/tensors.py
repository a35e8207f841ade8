"""Named arrays in a file of the safetensors format (huggingface/safetensors, README "Format"), in the order of the model's record.

The library sorts by dtype and name, and a Flower app that works with lists of arrays depends on the order; so the order is that of
the data and stands in the metadata entry ``order``. Anybody's safetensors reader opens these files. Reading maps the file.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from federation.errors import VerificationFailed

Array = npt.NDArray[Any]

HEADER_LIMIT: Final = 16 << 20
CODES: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
NAMES: Final = {dtype: code for code, dtype in CODES.items()}


class UnsupportedTensor(VerificationFailed):
    """An array of a type that NumPy or this format cannot hold, such as bfloat16."""


def code_of(dtype: np.dtype[Any]) -> str:
    """The format's word for a dtype. Raises UnsupportedTensor."""
    code = NAMES.get(dtype.newbyteorder("<"))
    if code is None:
        raise UnsupportedTensor(
            f"Arrays of {dtype} cannot travel.",
            hint="float64, float32, float16, integers and booleans can: convert it.",
        )
    return code


def head(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """What stands before the arrays' bytes: length, header. Looks at types and shapes alone. Raises UnsupportedTensor."""
    header: dict[str, Any] = {"__metadata__": {**(metadata or {}), "order": json.dumps(list(arrays))}}
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": code_of(array.dtype),
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def encode(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """The file piece by piece: head, then each array's bytes. Raises UnsupportedTensor."""
    yield head(arrays, metadata)
    for array in arrays.values():
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
        if flat.nbytes:
            yield flat.view(np.uint8).data


def write_arrays(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Creates or replaces ``path`` so that it is whole or absent."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        for piece in encode(arrays, metadata):
            stream.write(piece)
    temporary.replace(path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read-only views of the mapped file, in order. Raises VerificationFailed for anything that is not such a file."""
    return read_file(path)[0]


def read_file(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata. Raises VerificationFailed."""
    try:
        with path.open("rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise VerificationFailed(f"{path.name} cannot be read.", hint="Fetch it again.") from error
    try:
        return _parse(memoryview(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VerificationFailed(f"{path.name} is not a whole safetensors file.", hint="Fetch it again.") from error


def _parse(data: memoryview) -> tuple[dict[str, Array], dict[str, str]]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(HEADER_LIMIT, len(data) - 8):
        raise ValueError("header length")
    header = json.loads(bytes(data[8 : 8 + length]))
    metadata = header.pop("__metadata__", {})
    body = data[8 + length :]
    spans = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    at = 0
    arrays: dict[str, Array] = {}
    for name, entry in spans:
        begin, end = entry["data_offsets"]
        dtype, shape = CODES[entry["dtype"]], tuple(entry["shape"])
        if begin != at or any(not isinstance(side, int) or side < 0 for side in shape):
            raise ValueError("gap")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("size")
        arrays[name] = np.frombuffer(body[begin:end], dtype=dtype).reshape(shape)
        at = end
    if at != len(body):
        raise ValueError("trailing bytes")
    order = json.loads(metadata["order"]) if "order" in metadata else list(arrays)
    if sorted(order) != sorted(arrays):
        raise ValueError("order")
    return {name: arrays[name] for name in order}, {str(key): str(value) for key, value in metadata.items()}
