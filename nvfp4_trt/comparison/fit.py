"""Whether inputs and outputs belong to a file: by name, dtype and shape, before Polygraphy coerces them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.errors import InputsMismatchError, InputsMissingError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nvfp4_trt.runners.arrays import Feed

_HINT = "give the inputs, by name, that the file was exported with"


def check_feeds(feeds: Sequence[Feed], model: ir.Model, exported: Collection[str], file: str) -> None:
    """Refuse inputs that a file does not take.

    Polygraphy would cast and reshape them, or match names by position, with no more than a warning. An
    input that the graph does not use is not in the file, and may be given all the same.

    Args:
        feeds: inputs, one dictionary for each call.
        model: the file's model; bf16 inputs are fp32 in `feeds`.
        exported: names of all inputs that the file was exported with.
        file: its name, for errors.

    Raises:
        InputsMissingError: there is not one.
        InputsMismatchError: a name is missing or unknown, or has another dtype or shape.
    """
    if not feeds:
        raise InputsMissingError("there are no inputs to compare on", "give at least one batch")
    taken = {str(value.name): value for value in model.graph.inputs}
    for feed in feeds:
        missing = [name for name in taken if name not in feed]
        unknown = [name for name in feed if name not in taken and name not in exported]
        if missing or unknown or set(feed) != set(feeds[0]):
            raise InputsMismatchError(
                f"{file} takes the inputs {', '.join(taken)}, and {', '.join(feed)} were given", _HINT
            )
        for name, value in taken.items():
            _check_one(name, feed, value, file)


def _check_one(name: str, feed: Feed, value: ir.Value, file: str) -> None:
    array = feed[name]
    dtype = np.dtype(np.float32) if value.dtype == ir.DataType.BFLOAT16 else _numpy(value)
    extents = list(value.shape) if value.shape is not None else list(array.shape)
    fixed = [extent if isinstance(extent, int) else None for extent in extents]
    fits = len(fixed) == array.ndim and all(
        want in {None, got} for want, got in zip(fixed, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(extent) for extent in extents)
        raise InputsMismatchError(
            f"{file} takes {name} of shape [{wanted}], and {list(array.shape)} was given",
            "export it again with --dynamic to make a dimension dynamic, or give inputs of its shape",
        )
    if dtype is not None and array.dtype != dtype:
        raise InputsMismatchError(f"{file} takes {name} as {dtype}, and {array.dtype} was given", _HINT)


def _numpy(value: ir.Value) -> np.dtype[np.generic] | None:
    return None if value.dtype is None else value.dtype.numpy()


def check_outputs(reference: Feed, model: Feed, file: str) -> None:
    """Refuse to compare outputs with different names or shapes.

    Raises:
        InputsMismatchError: they differ.
    """
    if set(reference) != set(model):
        raise InputsMismatchError(
            f"{file} has the outputs {', '.join(model)}, and the reference {', '.join(reference)}",
            "compare with the model that the file was exported from",
        )
    for name, array in reference.items():
        if array.shape != model[name].shape:
            raise InputsMismatchError(
                f"the output {name} is {list(model[name].shape)} from {file}, "
                f"and {list(array.shape)} in the reference",
                "compare with the model that the file was exported from, on the same inputs",
            )
