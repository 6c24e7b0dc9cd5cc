"""Safetensors files: their headers, checked whole, and their tensors, mapped.

The format: 8 bytes with the length of a JSON header, the header with each tensor's dtype, shape and place, then
the tensors' bytes (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nvfp4_trt.errors import FileTruncatedError, NotAModelError
from nvfp4_trt.loading.stored import SMALL, Region, map_file, read_into

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
"""The names of dtypes in headers."""

LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000
"""The format's own limit, in bytes."""
_AGAIN = "it was probably not copied or downloaded to its end: fetch it again"


class Entry(NamedTuple):
    """One tensor of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    region: Region


class Header(NamedTuple):
    """What a file says of itself: its tensors by name, in the order of their bytes, and its metadata."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read and check a file's header.

    Raises:
        FileTruncatedError: the file ends before its header or its tensors do; names the first tensor that is cut.
        NotAModelError: the header cannot be read, or contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        raw = file.read(length) if length <= HEADER_LIMIT else b""
    if size < LENGTH_BYTES or (length <= HEADER_LIMIT and len(raw) < length):
        raise FileTruncatedError(f"{path} ends within its header ({size} bytes)", _AGAIN)
    try:
        described: dict[str, Any] = json.loads(raw)
        metadata = {str(key): str(value) for key, value in described.pop("__metadata__", {}).items()}
        start = LENGTH_BYTES + length
        found = [(name, _entry(name, fields, str(path), start)) for name, fields in described.items()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        text = str(error).partition("\n")[0]
        raise NotAModelError(
            f"{path} looks like safetensors, but its header is not readable ({text})", "write it again"
        ) from error
    found.sort(key=lambda each: each[1].region.offset)
    _check_places(path, found, start, size)
    return Header(dict(found), metadata)


def _entry(name: str, fields: dict[str, Any], path: str, start: int) -> Entry:
    if fields["dtype"] not in DTYPES:
        raise ValueError(f"{name} has the dtype {fields['dtype']}, which torch has not")
    dtype, shape = DTYPES[fields["dtype"]], tuple(int(extent) for extent in fields["shape"])
    begin, end = (int(each) for each in fields["data_offsets"])
    length = math.prod(shape) * dtype.itemsize
    if min((begin, *shape)) < 0 or end - begin != length:
        raise ValueError(f"{name} {list(shape)} {fields['dtype']} cannot be the bytes {begin} to {end}")
    return Entry(dtype, shape, Region(path, start + begin, length))


def _check_places(path: Path, found: list[tuple[str, Entry]], start: int, size: int) -> None:
    end = start
    for name, entry in found:
        if entry.region.offset < end:
            raise NotAModelError(f"{path}: the bytes of {name} are another tensor's too", "write it again")
        end = entry.region.offset + entry.region.length
        if end > size:
            raise FileTruncatedError(
                f"{path} ends within the tensor {name}: it holds {size} bytes of the "
                f"{max(e.region.offset + e.region.length for _, e in found)} that its header states",
                _AGAIN,
            )


def map_tensors(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Return the tensors of one or several files by name: large ones mapped, small ones read.

    Raises:
        FileTruncatedError, NotAModelError: see `read_header`; or two files hold one name.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        header = read_header(path)
        size = path.stat().st_size
        whole = map_file(path, 0, size)
        for name, entry in header.tensors.items():
            if name in tensors:
                raise NotAModelError(f"{path}: another file beside it holds {name!r} too", "write them again")
            tensors[name] = _tensor(entry, whole)
    return tensors


def _tensor(entry: Entry, whole: Tensor) -> Tensor:
    region = entry.region
    if region.length >= SMALL and region.offset % entry.dtype.itemsize == 0:
        return whole[region.offset : region.offset + region.length].view(entry.dtype).view(entry.shape)
    return read_entry(entry)


def read_entry(entry: Entry) -> Tensor:
    """Read one tensor into memory.

    Raises:
        FileTruncatedError: the file has become shorter than its header says.
    """
    out = torch.empty(entry.shape, dtype=entry.dtype)
    if entry.region.length:
        read_into(out.view(-1), entry.region)
    return out
