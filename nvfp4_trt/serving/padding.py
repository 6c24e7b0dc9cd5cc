"""Padding: what fills an input up to a bucket's shape, and how a request grows to it and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.errors import BucketsInvalidError, InputSpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nvfp4_trt.serving.manifest import Tensor

    Array = NDArray[np.generic]


def parse_pads(specs: Sequence[str]) -> dict[str, float]:
    """Parse `NAME=NUMBER`.

    Raises:
        InputSpecError: it is not that, or the number is not finite.
    """
    found = {}
    for spec in specs:
        name, _, text = spec.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise InputSpecError(f"--pad {spec!r} is not NAME=NUMBER", "for example --pad input_ids=0")
        found[name] = value
    return found


def pad_values(inputs: Sequence[Tensor], given: Mapping[str, float]) -> dict[str, float]:
    """Return what each input is padded with: what was given, or 0.

    0 is the padding token of most vocabularies, and hides a token in a mask of integers or truth values.

    Args:
        inputs: the model's inputs.
        given: by input name.

    Raises:
        BucketsInvalidError: a value for an input that the model has not, or one that the input's dtype cannot
            hold; or none for a mask of floating point, of which one kind hides a token by 0 and another shows it.
    """
    names = [tensor.name for tensor in inputs]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise BucketsInvalidError(
            f"--pad {unknown[0]}: the model has no such input", f"its inputs: {', '.join(names)}"
        )
    return {tensor.name: _value(tensor, given) for tensor in inputs}


def _value(tensor: Tensor, given: Mapping[str, float]) -> float:
    floating = tensor.numpy_dtype.kind not in "biu"
    if tensor.name not in given:
        if floating and tensor.is_mask and tensor.dims:
            raise BucketsInvalidError(
                f"{tensor.name} is a mask of {tensor.dtype}: 0 hides a token in a mask that is multiplied, and "
                "shows it in one that is added",
                f"say which: --pad {tensor.name}=0 or --pad {tensor.name}=-65504",
            )
        return 0.0
    value = float(given[tensor.name])
    if not floating and (not value.is_integer() or not _holds(tensor, int(value))):
        raise BucketsInvalidError(
            f"--pad {tensor.name}={value:g}: {tensor.dtype} cannot hold it", "give another value"
        )
    return value


def _holds(tensor: Tensor, value: int) -> bool:
    if tensor.numpy_dtype == np.bool_:
        return value in {0, 1}
    limits = np.iinfo(tensor.numpy_dtype)
    return int(limits.min) <= value <= int(limits.max)


def unmasked_dims(inputs: Sequence[Tensor], dims: Sequence[str], batch: str | None) -> tuple[str, ...]:
    """Return the dimensions that are padded with no mask to say so: results then depend on the padding.

    Args:
        inputs: the model's inputs; a mask is one whose name says so.
        dims: the dynamic dimensions.
        batch: the one that is padded by repeating a row, which needs no mask.
    """
    masked = {dim for tensor in inputs if tensor.is_mask for dim in tensor.dims}
    return tuple(dim for dim in dims if dim != batch and dim not in masked)


def pad(array: Array, tensor: Tensor, extents: Mapping[str, int], batch: str | None) -> Array:
    """Return an input grown to a bucket's shape.

    Along the batch a request's last row is repeated. A row of padding alone may compute NaN (a softmax over
    nothing), which a scale over the whole tensor would spread to all rows; a row that is there already changes no
    maximum.

    Args:
        array: the input, of the rank of `tensor`.
        tensor: what the manifest says of it, its padding value among that.
        extents: of every dynamic dimension, none smaller than the array's.
        batch: the dimension that counts rows, if any.
    """
    target = tensor.shape_at(extents)
    if array.shape == target:
        return array
    inner = tuple(
        have if dim == batch else want for dim, have, want in zip(tensor.shape, array.shape, target, strict=True)
    )
    grown = np.full(inner, tensor.pad, dtype=array.dtype)
    grown[tuple(slice(extent) for extent in array.shape)] = array
    if inner == target:
        return grown
    missing = target[0] - inner[0]
    return np.concatenate([grown, np.repeat(grown[-1:], missing, axis=0)])


def unpad(array: Array, tensor: Tensor, extents: Mapping[str, int]) -> Array:
    """Return an output cut back to a request's extents."""
    cut = tuple(slice(extents[dim] if isinstance(dim, str) else None) for dim in tensor.shape)
    return np.ascontiguousarray(array[cut])
