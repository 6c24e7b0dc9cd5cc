"""One lowered model at one shape → the engine that it will be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.errors import OnnxInvalidError
from nvfp4_trt.passes import lower
from nvfp4_trt.planning.baselines import to_16_bits, to_fp8
from nvfp4_trt.planning.fusion import Kind, fuse
from nvfp4_trt.planning.kernels import kernels_of
from nvfp4_trt.planning.outline import Outline
from nvfp4_trt.planning.sizes import activation_bytes, code_bytes, constants
from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    import onnx_ir as ir

    from nvfp4_trt.building.profiles import InputProfile, Range
    from nvfp4_trt.building.variants import Variant
    from nvfp4_trt.planning.kernels import Kernel
    from nvfp4_trt.planning.result import Precision

_LISTED = 5


@dataclass(frozen=True)
class Predicted:
    """An engine, as far as it does not depend on the GPU."""

    precision: Precision
    variant: Variant
    kernels: tuple[Kernel, ...]
    constants: Mapping[str, int | Fraction]
    """Name → bytes in the engine, with the padding of block scales."""
    dynamic: bool
    """Whether its graph has a dynamic dimension."""
    notes: tuple[str, ...]
    lowered: ir.Model
    parts: tuple[Predicted, ...] = ()
    """Where it was put together (`extended`): of fewer blocks, and of one more."""
    missing: int = 0
    """How many blocks the first of them lacks."""

    @property
    def weight_bytes(self) -> int:
        """The bytes of all constants."""
        return int(sum(self.constants.values()))

    @property
    def engine_bytes(self) -> int:
        """The bytes of the file."""
        narrow = bool(self.variant.loosened)
        return self.weight_bytes + code_bytes(self.kernels, dynamic=self.dynamic, narrow=narrow)

    def memory(self, profile: Mapping[str, InputProfile]) -> tuple[int, int]:
        """Return, at the largest shape of a profile, the bytes for activations and those of inputs and outputs."""
        if self.parts:
            (few, held), (many, _) = (each.memory(profile) for each in self.parts)
            return few + self.missing * (many - few), held
        narrow = self.precision == "bf16"
        outline = Outline(self.lowered, {name: each.max for name, each in profile.items()}, narrow=narrow)
        graph = self.lowered.graph
        bound = [v for v in (*graph.inputs, *graph.outputs) if v.name not in graph.initializers]
        kernels = tuple(kernels_of(outline, fuse(outline), {}))
        activations = activation_bytes(kernels, {value.name or "" for value in bound})
        return activations, sum(outline.nbytes(value) for value in bound)


def predict(
    model: ir.Model,
    precision: Precision,
    variant: Variant,
    ranges: Mapping[str, Range],
    profile: Mapping[str, InputProfile],
) -> Predicted:
    """Lower a portable model as the builder would, and predict the engine at the profile's optimum.

    Args:
        model: a copy, which is changed; no weight of it is read.
        precision: of the engine.
        variant: how to lower.
        ranges: of every dynamic dimension.
        profile: of every input with one.

    Raises:
        OnnxInvalidError: the graph contradicts itself at that shape.
    """
    layers = {site.gemm.name or "": (site.layer,) for site in find_sites(model.graph)}
    if precision == "bf16":
        to_16_bits(model)
    elif precision == "fp8":
        to_fp8(model)
    try:
        lowering = lower(model, form=variant.form, extents=variant.extents(ranges), pad_rows=variant.padded)
        outline = Outline(model, {name: each.opt for name, each in profile.items()}, narrow=precision == "bf16")
        groups = fuse(outline)
        kernels = tuple(kernels_of(outline, groups, {**layers, **lowering.gemms}))
        held = constants(outline, groups)
    except (ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        raise OnnxInvalidError(f"the graph cannot be followed: {error}", "run onnx.checker on it") from error
    opaque = [node for group in groups if group.kind is Kind.OPAQUE for node in group.nodes]
    return Predicted(
        precision=precision,
        variant=variant,
        kernels=kernels,
        constants=held,
        dynamic=outline.dynamic,
        notes=tuple(_notes(outline, opaque)),
        lowered=model,
    )


def _notes(outline: Outline, opaque: list[ir.Node]) -> list[str]:
    notes = []
    kinds = sorted({f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in opaque})
    if kinds:
        notes.append(f"nothing is known of {', '.join(kinds)}: each counts as one kernel of its operands' bytes")
    unknown = [value.name or "" for value in outline.unknown]
    if unknown:
        listed = ", ".join(unknown[:_LISTED]) + (", …" if len(unknown) > _LISTED else "")
        notes.append(f"{len(unknown)} tensors of unknown shape count as one element: {listed}")
    return notes
