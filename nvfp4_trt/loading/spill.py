"""A scratch file beside an output, for tensors that have been made and are not needed in memory meanwhile."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from nvfp4_trt.atomic import as_our_errors, check_writable
from nvfp4_trt.loading.stored import SMALL, Region, map_file, read_into, region_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ALIGNMENT = 4096
_CAST_AT_ONCE = 1 << 22  # elements


class Spill:
    """Writes tensors to a nameless file, and gives them back mapped from there.

    The file takes the space of what is in it until the object is closed, and is gone with the process however
    that ends. Tensors from it hold as long as the object is open.

    Args:
        output: the file that is being made; the scratch file is on its disk.

    Raises:
        OutputUnwritableError: the output's folder is missing, or cannot be written to.
        DiskFullError: the disk filled up; from any method.
    """

    def __init__(self, output: Path) -> None:
        check_writable(output)
        self._output = output
        self._end = 0
        with as_our_errors(output):
            self._file = tempfile.TemporaryFile(dir=output.parent, buffering=0)  # noqa: SIM115 (see `__exit__`)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the same tensors, mapped from the file; small ones as they are."""
        return [self._put(tensor) if tensor.nbytes >= SMALL else tensor for tensor in tensors]

    def cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a tensor in another dtype, mapped from the file, having held little of it in memory.

        Raises:
            FileTruncatedError: the tensor's own file has become shorter.
        """
        if tensor.numel() * dtype.itemsize < SMALL:
            return tensor.to(dtype)
        region = region_of(tensor)
        flat = tensor.detach().reshape(-1)
        start = self._aligned()
        for first in range(0, len(flat), _CAST_AT_ONCE):
            piece = flat[first : first + _CAST_AT_ONCE]
            if region is not None:
                place = Region(region.path, region.offset + first * tensor.element_size(), piece.nbytes)
                piece = torch.empty(len(piece), dtype=tensor.dtype)
                read_into(piece, place)
            self._write(piece.to(dtype))
        return self._mapped(start, tensor.shape, dtype)

    def cast_module(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Cast the large floating parameters and buffers of a module in place, having held little in memory."""
        known: dict[int, nn.Parameter] = {}  # a parameter that modules share stays one
        for child in module.modules():
            own, buffers = child._parameters, child._buffers  # noqa: SLF001 (torch's only names for them)
            for name, parameter in own.items():
                if parameter is not None and _to_be_cast(parameter, dtype):
                    if id(parameter) not in known:
                        cast = self.cast(parameter.detach(), dtype)
                        known[id(parameter)] = nn.Parameter(cast, requires_grad=parameter.requires_grad)
                    own[name] = known[id(parameter)]
            for name, buffer in buffers.items():
                if buffer is not None and _to_be_cast(buffer, dtype):
                    buffers[name] = self.cast(buffer, dtype)

    def _put(self, tensor: Tensor) -> Tensor:
        start = self._aligned()
        self._write(tensor.detach().contiguous().view(-1))
        return self._mapped(start, tensor.shape, tensor.dtype)

    def _aligned(self) -> int:
        self._end = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        return self._end

    def _write(self, flat: Tensor) -> None:
        view = memoryview(flat.view(torch.uint8).numpy().data)
        with as_our_errors(self._output):
            while view:
                written = os.pwrite(self._file.fileno(), view, self._end)
                view = view[written:]
                self._end += written

    def _mapped(self, start: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        path = f"/proc/self/fd/{self._file.fileno()}"
        return map_file(path, start, self._end - start).view(dtype).view(tuple(shape))


def _to_be_cast(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.is_floating_point() and tensor.dtype != dtype and region_of(tensor) is not None
