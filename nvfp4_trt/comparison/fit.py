"""Whether inputs and outputs belong to a file: by name, dtype and shape, before Polygraphy coerces them."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.errors import InputsMismatchError, InputsMissingError
from nvfp4_trt.tapping import input_tap, output_tap

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nvfp4_trt.layers import Layer
    from nvfp4_trt.runners.arrays import Feed
    from nvfp4_trt.tapping import Call

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
    """Refuse to compare outputs with different names or shapes, or numbers with truth values and the like.

    Raises:
        InputsMismatchError: they differ; it names the output.
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
        kinds = [np.issubdtype(each.dtype, np.floating) for each in (array, model[name])]
        if array.dtype != model[name].dtype and not all(kinds):
            raise InputsMismatchError(
                f"the output {name} is {model[name].dtype} from {file}, and {array.dtype} in the reference",
                "compare with the model that the file was exported from",
            )


def check_layers(file_layers: Sequence[Layer], module_layers: Sequence[Layer], file: str) -> None:
    """Refuse to compare a file and a quantized module with different quantized layers.

    Raises:
        InputsMismatchError: they have; it names the first that one of them has only, or that has another shape.
    """
    ours, theirs = (
        {layer.name: layer for layer in layers if layer.quantized} for layers in (file_layers, module_layers)
    )
    hint = "compare with the model that the file was exported from; `export --fix` renames layers"
    for name in [*ours, *theirs]:
        if name not in ours or name not in theirs:
            where = "the model" if name not in theirs else file
            raise InputsMismatchError(f"the quantized layer {name} is not in {where}", hint)
        if ours[name].shape != theirs[name].shape:
            raise InputsMismatchError(
                f"the layer {name} is {list(ours[name].shape)} in {file}, "
                f"and {list(theirs[name].shape)} in the model",
                hint,
            )


def check_taps(
    calls: Sequence[Call], others: Sequence[Call] | None, reference: Feed, model: Feed, name: str = ""
) -> None:
    """Refuse to compare runs that call different layers, or have tensors of different shapes at one.

    Args:
        calls: of layers, those that both have to have.
        others: the calls that the model made; None where they are those by construction.
        reference: its taps.
        model: its taps, too.
        name: what the model is called in errors; the quantized torch model by default.

    Raises:
        InputsMismatchError: they differ; it names the layer.
    """
    told = name or "the quantized model"
    if others is not None and list(others) != list(calls):
        apart = next(pair for pair in zip_longest(calls, others) if pair[0] != pair[1])
        one, other = (call.key if call is not None else "nothing" for call in apart)
        raise InputsMismatchError(
            f"the reference calls {one} where {told} calls {other}", "compare models that call the same layers"
        )
    for tap in (tap for call in calls for tap in (input_tap(call), output_tap(call))):
        if reference[tap].shape != model[tap].shape:
            raise InputsMismatchError(
                f"{tap} is {list(model[tap].shape)} in {told}, and {list(reference[tap].shape)} in the reference",
                "compare with the model that the file was exported from, on the same inputs",
            )
