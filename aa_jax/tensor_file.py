"""The safetensors format, read lazily through mmap and written one tensor at a time, so that no file is ever whole in
memory."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000


class Tensor(Protocol):
    """What can be written: NumPy and JAX arrays, and `LazyArray`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """An array whose shape and dtype are known and whose values are read when asked for, each time anew."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.read()
        return np.array(values, dtype) if copy else np.asarray(values, dtype)

    def map(
        self, change: Callable[[np.ndarray], np.ndarray], *, shape: tuple[int, ...] | None = None, dtype: Any = None
    ) -> "LazyArray":
        """The array after `change`, which gives `shape` and `dtype` where they differ from this array's."""
        return LazyArray(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else np.dtype(dtype),
            lambda: change(self.read()),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What was written: bytes, SHA-256 of the file, number of tensors and of values, dtypes with a slash between."""

    size: int
    sha256: str
    tensors: int
    parameters: int
    dtype: str


def read_tensors(path: str | os.PathLike[str]) -> dict[str, LazyArray]:
    """The tensors of a safetensors file, in the order of their bytes.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is cut short, too long, not in this format, or holds a dtype that NumPy cannot.
    """
    entries, _ = _read_header(Path(path))
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")

    def lazy(entry: dict[str, Any]) -> LazyArray:
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        begin, end = (start + offset for offset in entry["data_offsets"])
        return LazyArray(shape, dtype, lambda: data[begin:end].view(dtype).reshape(shape))

    return {name: lazy(entry) for name, entry in entries.items()}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The free text entries of a safetensors file."""
    return _read_header(Path(path))[1]


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> FileFacts:
    """Write a safetensors file, one tensor in memory at a time.

    Wide dtypes come first, so that every tensor is aligned.

    Raises:
      ValueError: a dtype that the format has not, or values that are not of the announced shape and dtype.
    """
    names = sorted(tensors, key=lambda name: (-np.dtype(tensors[name].dtype).itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = parameters = 0
    for name in names:
        dtype, count = np.dtype(tensors[name].dtype), math.prod(tensors[name].shape)
        if dtype not in NAMES:
            raise ValueError(f"tensor {name} has dtype {dtype}, expected one of {', '.join(map(str, NAMES))}")
        end = offset + count * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset, parameters = end, parameters + count
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    digest = hashlib.sha256()
    with open(path, "wb") as file:

        def put(data: Any) -> None:
            file.write(data)
            digest.update(data)

        put(len(text).to_bytes(8, "little") + text)
        for name in names:
            values, shape, dtype = np.asarray(tensors[name]), tuple(tensors[name].shape), np.dtype(tensors[name].dtype)
            if values.shape != shape or values.dtype != dtype:
                raise ValueError(
                    f"tensor {name} gave {values.dtype} {values.shape} where {dtype} {shape} was announced"
                )
            put(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        size = file.tell()
    dtypes = sorted({str(np.dtype(tensor.dtype)) for tensor in tensors.values()})
    return FileFacts(
        size=size, sha256=digest.hexdigest(), tensors=len(names), parameters=parameters, dtype="/".join(dtypes)
    )


def _read_header(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Checked entries in byte order, and the metadata."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a safetensors file")
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise ValueError(
                f"{path} is no whole safetensors file: {size} bytes do not hold its header. "
                "Download or convert it again"
            )
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            entries = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is no safetensors file: its header cannot be read") from error
    expected = 0
    for name, entry in entries.items():
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{path}: tensor {name} has dtype {entry['dtype']}, expected one of {', '.join(DTYPES)}")
        if entry["data_offsets"] != [expected, expected + math.prod(entry["shape"]) * dtype.itemsize]:
            raise ValueError(
                f"{path} is damaged: the header's place for tensor {name} does not fit its shape {entry['shape']}"
            )
        expected = entry["data_offsets"][1]
    if size != 8 + length + expected:
        raise ValueError(
            f"{path} has {size} bytes where its header says {8 + length + expected}: download or convert it again"
        )
    return entries, metadata
