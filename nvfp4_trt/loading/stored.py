"""Tensors that lie in files: mapped into memory, and known by their place in the file.

A mapped tensor is a real one, and its pages take memory only once they are looked at. Whoever needs all of it
reads the file instead (`read`), so that the pages stay where they are and a file that has become shorter is an
error and not a signal.
"""

from __future__ import annotations

import mmap
import os
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nvfp4_trt.errors import FileTruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = 1 << 14
"""Tensors of fewer bytes are kept in memory: passes over a graph look at those of up to 1,024 elements."""

_PAGE = mmap.ALLOCATIONGRANULARITY
_MOST_AT_ONCE = 1 << 30  # one system call moves less than 2 GiB


class Region(NamedTuple):
    """A piece of a file, in bytes."""

    path: str
    offset: int
    length: int


class _Mapping(mmap.mmap):
    """A private, writable map of a piece of a file, that knows where it lies in both."""

    path: str
    offset: int
    address: int


_mappings: weakref.WeakSet[_Mapping] = weakref.WeakSet()


def map_file(path: str | Path, offset: int, length: int) -> Tensor:
    """Return a piece of a file as uint8 `[length]`; what is written to it stays in memory.

    Args:
        path: a file that stays readable under this path for as long as the tensor is in use.
        offset: of the piece's first byte; any number.
        length: of the piece, at least 1.
    """
    start = offset - offset % _PAGE
    descriptor = os.open(path, os.O_RDONLY)
    try:
        mapping = _Mapping(descriptor, offset + length - start, access=mmap.ACCESS_COPY, offset=start)
    finally:
        os.close(descriptor)
    whole = torch.frombuffer(mapping, dtype=torch.uint8)
    mapping.path, mapping.offset, mapping.address = str(Path(path).absolute()), start, whole.data_ptr()
    _mappings.add(mapping)
    return whole[offset - start :]


def region_of(tensor: Tensor) -> Region | None:
    """Return the piece of a file that a tensor's bytes are, in order; None where they are no such piece."""
    if not tensor.is_contiguous():
        return None
    mapping = _mapping_of(tensor)
    if mapping is None:
        return None
    return Region(mapping.path, mapping.offset + tensor.data_ptr() - mapping.address, tensor.nbytes)


def _mapping_of(tensor: Tensor) -> _Mapping | None:
    """Return the map that a tensor lies in; None also where something was written to it."""
    if type(tensor) not in {Tensor, nn.Parameter} or tensor.device.type != "cpu" or not tensor.nbytes:
        return None
    if tensor.is_inference() or tensor._version:  # noqa: SLF001 (torch's only name for it)
        return None
    for mapping in _mappings:
        if 0 <= tensor.data_ptr() - mapping.address <= len(mapping) - tensor.nbytes:
            return mapping
    return None


def read(tensor: Tensor) -> Tensor:
    """Return a tensor in memory: itself, or what its file holds, read without touching its pages.

    Raises:
        FileTruncatedError: the file ends before the tensor does.
    """
    region = region_of(tensor)
    if region is None:
        return tensor
    out = torch.empty(tensor.shape, dtype=tensor.dtype)
    read_into(out.view(-1), region)
    return out


def read_into(out: Tensor, region: Region) -> None:
    """Fill a contiguous one-dimensional tensor with the first bytes of a piece of a file.

    Raises:
        FileTruncatedError: the file ends before that.
    """
    view = memoryview(out.view(torch.uint8).numpy().data)
    descriptor = os.open(region.path, os.O_RDONLY)
    try:
        done = 0
        while done < len(view):
            got = os.preadv(descriptor, [view[done : done + _MOST_AT_ONCE]], region.offset + done)
            if not got:
                raise FileTruncatedError(
                    f"{region.path} ends at byte {region.offset + done}, within a tensor that starts at "
                    f"{region.offset} and has {region.length} bytes",
                    "it was cut short, or is still being written: fetch it again",
                )
            done += got
    finally:
        os.close(descriptor)


def release(tensor: Tensor) -> None:
    """Give back the memory of a mapped tensor's pages; they are read from the file when looked at again."""
    mapping = _mapping_of(tensor)
    if mapping is None:
        return
    start = tensor.data_ptr() - mapping.address
    first = -(-start // _PAGE) * _PAGE  # pages that others share are left
    length = (start + tensor.nbytes) // _PAGE * _PAGE - first
    if length > 0:
        mapping.madvise(mmap.MADV_DONTNEED, first, length)


@contextmanager
def releasing(module: nn.Module) -> Iterator[None]:
    """Give each layer's mapped parameters back after its forward: a whole forward in the memory of one layer."""

    def forget(layer: nn.Module, *_: object) -> None:
        for parameter in layer._parameters.values():  # noqa: SLF001 (its own, not its children's)
            if parameter is not None:
                release(parameter)

    handles = [child.register_forward_hook(forget) for child in module.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
