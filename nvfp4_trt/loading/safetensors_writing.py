"""Writing a safetensors file: where each tensor goes, and its bytes, from memory or from another file."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nvfp4_trt.loading.safetensors_files import DTYPES, LENGTH_BYTES
from nvfp4_trt.loading.stored import read_into, region_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvfp4_trt.loading.stored import Region

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8
_COPIED_AT_ONCE = 1 << 23


class Place(NamedTuple):
    """A tensor of a file that is written: what it is, and the byte that it starts at, after the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def length(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def laid_out(tensors: Mapping[str, Place]) -> dict[str, Place]:
    """Return the tensors with their offsets, those of larger elements first, so that each is aligned."""
    found = dict(tensors)
    end = 0
    for name in sorted(found, key=lambda each: -found[each].dtype.itemsize):
        found[name] = found[name]._replace(offset=end)
        end += found[name].length
    return found


def header_bytes(places: Mapping[str, Place], metadata: Mapping[str, str]) -> bytes:
    """Return a file's bytes before its tensors."""
    described: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, place in sorted(places.items(), key=lambda item: item[1].offset):
        described[name] = {
            "dtype": _NAMES[place.dtype],
            "shape": place.shape,
            "data_offsets": (place.offset, place.offset + place.length),
        }
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Write a safetensors file, tensor by tensor; mapped ones are copied from their files, never held whole.

    Args:
        path: a scratch path, see `nvfp4_trt.atomic`.
        tensors: by name, on the CPU.
        metadata: the header's own entries.

    Returns:
        The file's size in bytes.

    Raises:
        FileTruncatedError: the file of a mapped tensor has become shorter.
    """
    places = laid_out({name: Place(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()})
    start = header_bytes(places, metadata)
    size = len(start) + sum(place.length for place in places.values())
    with path.open("w+b", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a disk that is too small is told of now
        write_at(file.fileno(), 0, start)
        for name, tensor in tensors.items():
            offset, region = len(start) + places[name].offset, region_of(tensor)
            if region is None:
                write_at(file.fileno(), offset, tensor)
            else:
                copy_region(file.fileno(), offset, region)
    return size


def copy_region(file: int, offset: int, region: Region) -> None:
    """Copy a piece of one file into another, in small parts.

    Raises:
        FileTruncatedError: the file that is read ends before the piece does.
    """
    for done in range(0, region.length, _COPIED_AT_ONCE):
        piece = torch.empty(min(_COPIED_AT_ONCE, region.length - done), dtype=torch.uint8)
        read_into(piece, region._replace(offset=region.offset + done))
        write_at(file, offset + done, piece)


def write_at(file: int, offset: int, content: Tensor | bytes) -> None:
    """Write bytes, or a tensor's, at a place of an open file."""
    held = content.contiguous().view(-1).view(torch.uint8).numpy().data if isinstance(content, Tensor) else content
    view = memoryview(held)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
