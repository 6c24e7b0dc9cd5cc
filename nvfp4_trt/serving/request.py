"""What is asked of a serving set, checked against the model before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.building.profiles import Range, parse_ranges
from nvfp4_trt.errors import BucketsInvalidError, ProfileError
from nvfp4_trt.portable import load
from nvfp4_trt.serving.buckets import dynamic_dims, parse_buckets
from nvfp4_trt.serving.padding import parse_pads
from nvfp4_trt.serving.tensors import batch_dim, input_tensors, output_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvfp4_trt.portable import Metadata
    from nvfp4_trt.serving.buckets import Bucket, Given
    from nvfp4_trt.serving.manifest import Tensor


@dataclass(frozen=True)
class Request:
    """A model and the shapes to build it for."""

    source: Path
    """The portable file."""
    metadata: Metadata
    data: tuple[str, ...]
    """Files beside the model's that hold its weights."""
    dims: tuple[str, ...]
    """The model's dynamic dimensions."""
    batch: str | None
    """The one that counts rows."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    buckets: tuple[Bucket, ...]
    ranges: dict[str, Range]
    """Of the dynamic engine, by dimension; empty for none."""

    @property
    def preferred(self) -> dict[str, int]:
        """The dynamic engine's preferred extents."""
        return {name: span.opt for name, span in self.ranges.items()}

    @property
    def range_specs(self) -> tuple[str, ...]:
        """The values of `--dim` that make the dynamic engine."""
        return tuple(f"{name}={low}:{best}:{most}" for name, (low, best, most) in self.ranges.items())


def read_request(
    source: Path, buckets: Given, pads: Sequence[str], dims: Sequence[str], *, with_dynamic: bool
) -> Request:
    """Read the model, and check what is asked against it; see `build_buckets`.

    Raises:
        BucketsInvalidError: buckets, padding values or outputs do not fit, or a range without a dynamic engine.
        InputSpecError, ProfileError: an option's syntax.
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load`.
    """
    model, metadata = load(source)
    names = dynamic_dims(model.graph.inputs)
    asked = parse_buckets(buckets, names)
    inputs = input_tensors(model.graph.inputs, parse_pads(pads))
    outputs = output_tensors(model.graph.outputs, names)
    return Request(
        source=source,
        metadata=metadata,
        data=_data_files(model),
        dims=names,
        batch=batch_dim(inputs, outputs, names),
        inputs=inputs,
        outputs=outputs,
        buckets=asked,
        ranges=_ranges(asked, dims, with_dynamic=with_dynamic),
    )


def _ranges(asked: Sequence[Bucket], dims: Sequence[str], *, with_dynamic: bool) -> dict[str, Range]:
    """Return the dynamic engine's ranges; a dimension without one goes from 1 to the buckets' largest extent."""
    given = parse_ranges(dims)
    if not with_dynamic:
        if given:
            raise BucketsInvalidError(
                f"--dim {dims[0]} is of the dynamic engine, which is not to be built", "drop --dim or --no-dynamic"
            )
        return {}
    largest = {name: max(bucket.as_dict()[name] for bucket in asked) for name in asked[0].as_dict()}
    unknown = [name for name in given if name not in largest]
    if unknown:
        raise ProfileError(
            f"--dim {unknown[0]}: the model has no such dimension", f"its dynamic dimensions: {', '.join(largest)}"
        )
    return {**{name: Range(1, most, most) for name, most in largest.items()}, **given}


def _data_files(model: ir.Model) -> tuple[str, ...]:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return tuple(sorted({str(x.location) for x in tensors if isinstance(x, ir.ExternalTensor)}))
