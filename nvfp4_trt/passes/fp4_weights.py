"""Packed uint8 weights → FLOAT4E2M1 initializers behind standard DequantizeLinear nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, dequantize_blocks, remove_unused, replace_uses
from nvfp4_trt.portable import is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fp4Weights(LoweringPass):
    """Replaces each `nvfp4.Dequantize` of an initializer by two DequantizeLinear nodes and a Cast.

    Needs: `SingleLevel` has run (every weight has a per-tensor scale).
    After: no packed initializer is left; the bytes of codes and scales are those of the portable file.
    Meaning: the portable body computes `(e2m1 · s_b) · s_t`, DequantizeLinear `e2m1 · (s_b · s_t)`: the first
    product is exact there, the second rounded here, so a value may differ by 2⁻²³ relative.
    """

    name = "fp4-weights"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        found = [n for n in graph if is_ours(n, {"Dequantize"}) and n.inputs[0] in graph.initializers.values()]
        converted: dict[str, ir.Value] = {}
        for node in found:
            _replace(graph, node, converted)
        for name in converted:
            if not graph.initializers[name].uses():
                del graph.initializers[name]
        return len(found)


def _replace(graph: ir.Graph, node: ir.Node, converted: Mapping[str, ir.Value]) -> None:
    packed, block_scale, scale = node.inputs
    if packed is None or packed.name is None:
        raise ValueError(f"{node.name} has no named weight")
    name = packed.name.removesuffix("_packed")
    if packed.name not in converted:
        converted[packed.name] = _as_fp4(graph, packed, name)  # type: ignore[index]
    weight = converted[packed.name]
    out = node.outputs[0]
    build = Builder(graph, node.name or name, before=node)
    steps = build.node("DequantizeLinear", [block_scale, scale], "scales").outputs[0]
    steps.type, steps.shape = ir.TensorType(ir.DataType.FLOAT), block_scale.shape if block_scale else None
    replace_uses(graph, out, dequantize_blocks(build, weight, steps, out))
    remove_unused(graph, [node])


def _as_fp4(graph: ir.Graph, packed: ir.Value, name: str) -> ir.Value:
    """Return the initializer `name` of FLOAT4E2M1 codes; what lies in a file is read when it is written."""
    held = packed.const_value
    if held is None:
        raise ValueError(f"{packed.name} is not in the file")
    *lead, half = held.shape.numpy()
    shape = ir.Shape([*lead, half * 2])

    def codes() -> ir.PackedTensor[Any]:
        data = np.ascontiguousarray(held.numpy()).reshape(-1)
        return ir.PackedTensor(data, ir.DataType.FLOAT4E2M1, shape=shape, name=name)

    lazy = isinstance(held, (ir.ExternalTensor, ir.LazyTensor))
    tensor = ir.LazyTensor(codes, ir.DataType.FLOAT4E2M1, shape, name=name) if lazy else codes()
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT4E2M1), const_value=tensor)
    graph.register_initializer(value)
    return value
