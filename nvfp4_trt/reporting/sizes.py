"""Where a portable file's bytes are: by layer, and by what they hold."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.checking import operands
from nvfp4_trt.portable import FP8_SUFFIX, PACKED_SUFFIX
from nvfp4_trt.reporting.data import Layer, Share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir

    from nvfp4_trt.layers import Layer as FileLayer

_MATRIX = 2
_PARTS = {
    PACKED_SUFFIX: "FP4 codes",
    ".weight_block_scale": "FP4 block scales",
    FP8_SUFFIX: "FP8 codes",
}


class Tensor(NamedTuple):
    """One tensor that the file stores."""

    owner: str
    """The module that it belongs to: its name up to the last dot."""
    part: str
    """What it holds, in words."""
    dtype: str
    shape: tuple[int, ...]
    bytes: int


def stored_tensors(model: ir.Model) -> list[Tensor]:
    """Return every tensor of a portable file; no data is read."""
    return list(_tensors(model))


def _tensors(model: ir.Model) -> Iterator[Tensor]:
    for name, value in model.graph.initializers.items():
        held = value.const_value
        if held is None:
            continue
        owner, dot, last = name.rpartition(".")
        shape, dtype = tuple(held.shape.numpy()), dtype_name(held.dtype)
        part = _PARTS.get(f".{last}") or (
            f"matrices in {dtype}" if len(shape) >= _MATRIX else "vectors and single numbers"
        )
        yield Tensor(owner if dot else "", part, dtype, shape, held.nbytes)


def dtype_name(dtype: ir.DataType | None) -> str:
    """Return a dtype's name as NumPy and torch have it, such as `float32`; ONNX says `FLOAT`."""
    return "unknown" if dtype is None else operands.dtype_name(dtype.value)


def shares(tensors: Iterable[Tensor]) -> tuple[Share, ...]:
    """Return the bytes by what they hold, the most first."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for tensor in tensors:
        kinds[tensor.part].append(tensor.bytes)
    made = [Share(name=name, tensors=len(sizes), bytes=sum(sizes)) for name, sizes in kinds.items()]
    return tuple(sorted(made, key=lambda share: (-share.bytes, share.name)))


def sized_layers(layers: Sequence[FileLayer], tensors: Sequence[Tensor]) -> list[Layer]:
    """Return a row for each layer of the file's table, and for every other module that holds a matrix."""
    owned: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        owned[tensor.owner].append(tensor)
    known = {layer.name for layer in layers}
    rows = [
        Layer(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            precision=layer.precision,
            reason=layer.reason,
            parameters=math.prod(layer.shape),
            bytes=sum(tensor.bytes for tensor in owned.get(layer.name, ())),
        )
        for layer in layers
    ]
    return rows + list(_others(owned, known))


def _others(owned: Mapping[str, Sequence[Tensor]], known: set[str]) -> Iterator[Layer]:
    for owner, tensors in owned.items():
        largest = max(tensors, key=lambda tensor: tensor.bytes)
        if owner in known or not owner or len(largest.shape) < _MATRIX:
            continue
        yield Layer(
            name=owner,
            kind="",
            shape=largest.shape,
            precision=largest.dtype,
            reason="no layer that is quantized: a table, or a parameter of the module's own",
            parameters=sum(math.prod(tensor.shape) for tensor in tensors),
            bytes=sum(tensor.bytes for tensor in tensors),
        )
