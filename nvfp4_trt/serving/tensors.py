"""A model's inputs and outputs as a manifest has them, and which dimension counts rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.errors import BucketsInvalidError
from nvfp4_trt.serving.manifest import Tensor
from nvfp4_trt.serving.padding import pad_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx_ir as ir

_BATCH = "batch"


def input_tensors(values: Iterable[ir.Value], pads: Mapping[str, float]) -> tuple[Tensor, ...]:
    """Return the inputs, each with what it is padded with.

    Raises:
        BucketsInvalidError: see `padding.pad_values`.
    """
    tensors = [_tensor(value) for value in values]
    chosen = pad_values(tensors, pads)
    return tuple(tensor.model_copy(update={"pad": chosen[tensor.name]}) for tensor in tensors)


def output_tensors(values: Iterable[ir.Value], dims: Sequence[str]) -> tuple[Tensor, ...]:
    """Return the outputs.

    Raises:
        BucketsInvalidError: a dimension is neither fixed nor one of `dims`, so that nothing says how much of a
            padded output belongs to the request.
    """
    tensors = tuple(_tensor(value) for value in values)
    for tensor in tensors:
        for dim in tensor.dims:
            if dim not in dims:
                raise BucketsInvalidError(
                    f"the output {tensor.name} has the dimension {dim!r}, which is not one of the inputs' "
                    f"({', '.join(dims)}): nothing says how to cut a padded result",
                    "let the model return tensors whose dimensions are its inputs'; or build one dynamic engine, "
                    "without --buckets",
                )
    return tensors


def batch_dim(inputs: Sequence[Tensor], outputs: Sequence[Tensor], dims: Sequence[str]) -> str | None:
    """Return the dimension along which requests are independent of each other: one whose name starts with `batch`.

    The name decides, since a shape cannot: the rows of `[sequence, width]` may attend to each other. It must lead
    every output and every input that has it, and be nowhere else.
    """
    for dim in dims:
        places = [[axis for axis, name in enumerate(each.shape) if name == dim] for each in (*inputs, *outputs)]
        leads = all(found in ([], [0]) for found in places) and all(places[len(inputs) :])
        if dim.startswith(_BATCH) and leads:
            return dim
    return None


def _tensor(value: ir.Value) -> Tensor:
    name = value.name or ""
    if value.shape is None or value.dtype is None:
        raise BucketsInvalidError(f"nothing is known of the shape of {name}", "export the model again")
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    return Tensor(name=name, dtype=value.dtype.numpy().name, shape=shape)
