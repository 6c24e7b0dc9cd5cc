"""Linears of one module that read one quantized activation → one GEMM, and a Split of its columns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, array_of, constant
from nvfp4_trt.passes.merging import joined, split_columns
from nvfp4_trt.passes.plugin_nodes import layers_at, set_layers
from nvfp4_trt.portable import LAYER, find_sites, is_ours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nvfp4_trt.portable import Site

_STEP = 8
"""N of a linear that is merged is a multiple of it: with an odd N, TensorRT builds another kind of GEMM."""

_PARTS = {"Dequantize": ("weight_packed", "weight_block_scale"), "Fp8Dequantize": ("weight_fp8", "weight_scale")}
"""What has a row for each of N, of a weight by the operator that dequantizes it."""


class MergeLinears(LoweringPass):
    """Stacks the weights of query, key and value, of gate and up, along N.

    TensorRT merges such GEMMs itself only where it likes what follows, and else runs them beside one another on
    streams of their own, with memory for each. Codes and block scales are stacked as they are, and so are the
    scales of an FP8 weight, which has one for each column. NVFP4's scales per tensor differ: the largest becomes
    the merged weight's, so that no sum grows past what that layer's own would be, and the columns are multiplied
    by each layer's share of it. Linears of different modules are left apart (a decoder's layers all read the
    encoder's output, but at different times).

    Needs: `SingleLevel` and `GemmToMatMul` have run. After: linears of one module on one quantized activation are
    one GEMM, if each has an N that is a multiple of 8 and a weight of its own.
    Meaning: of FP8 unchanged, bit for bit; of NVFP4 up to the order of rounding. A weight is `q · s_b · s_max`
    and its column is multiplied by `s / s_max`, where the portable form computes `q · s_b · s`: in the
    activation's dtype, one rounding more of the sum and one of that quotient.
    """

    name = "merge-linears"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        groups: dict[tuple[ir.Value | None, str, str], list[Site]] = {}
        for site in find_sites(model.graph):
            if _fits(site):
                module = site.layer.rpartition(".")[0]
                groups.setdefault((site.gemm.inputs[0], site.weight.op_type, module), []).append(site)
        found = [sites for sites in groups.values() if len(sites) > 1]
        for sites in found:
            _merge(model.graph, sites)
        return len(found)


def _fits(site: Site) -> bool:
    weight, packed = site.weight, site.weight.inputs[0]
    if site.activation is None or site.gemm.op_type != "MatMul" or not is_ours(weight, set(_PARTS)):
        return False
    if packed is None or packed.shape is None or site.gemm.outputs[0].shape is None:
        return False
    alone = all(len(value.uses()) == 1 for value in (packed, weight.outputs[0], *site.gemm.inputs[1:]) if value)
    return alone and isinstance(packed.shape[0], int) and packed.shape[0] % _STEP == 0


def _merge(graph: ir.Graph, sites: Sequence[Site]) -> None:
    first = sites[0]
    layers = [layer for site in sites for layer in layers_at(site)]
    name = joined(layers)
    widths = [int(site.weight.inputs[0].shape[0]) for site in sites]  # type: ignore[union-attr, index, arg-type]
    y = first.gemm.outputs[0]
    build = Builder(graph, name, before=first.gemm)
    merged = _weight(build, sites, sum(widths))
    set_layers(merged, layers)
    merged.metadata_props[LAYER] = name
    k = int(first.weight.outputs[0].shape[-1])  # type: ignore[index, arg-type]
    turned = build.node("Transpose", [merged.outputs[0]], "Transpose", attributes={"perm": [1, 0]}, like=y)
    turned.outputs[0].shape = ir.Shape([k, sum(widths)])
    out = build.node("MatMul", [first.gemm.inputs[0], turned.outputs[0]], "MatMul", like=y).outputs[0]
    out.shape = ir.Shape([*list(y.shape or ())[:-1], sum(widths)])
    if is_ours(merged, {"Dequantize"}):
        out = build.node("Mul", [out, _shares(build, sites, widths)], "times_share", like=out).outputs[0]
    turning = [site.gemm.inputs[1].producer() for site in sites if site.gemm.inputs[1] is not None]
    split_columns(build, out, widths, [site.gemm for site in sites], (*turning, *(site.weight for site in sites)))


def _weight(build: Builder, sites: Sequence[Site], n: int) -> ir.Node:
    """Return the node that dequantizes the stacked weight `[n, K]`."""
    name, first = build.prefix, sites[0].weight
    stacked = [
        _stacked(build.graph, f"{name}.{suffix}", [site.weight.inputs[index] for site in sites])
        for index, suffix in enumerate(_PARTS[first.op_type])
    ]
    if first.op_type == "Dequantize":
        stacked.append(constant(build.graph, f"{name}.weight_per_tensor_scale", _scales(sites).max()))
    like = first.outputs[0]
    node = build.node(first.op_type, stacked, first.op_type, domain=first.domain, like=like)
    node.attributes.update(first.attributes)
    node.outputs[0].shape = ir.Shape([n, *list(like.shape or ())[1:]])
    return node


def _shares(build: Builder, sites: Sequence[Site], widths: Sequence[int]) -> ir.Value:
    """Return each column's share of the merged weight's scale, `[sum(widths)]`, in the weight's dtype."""
    scales = _scales(sites)
    shares = np.repeat(scales / scales.max(), widths)
    dtype = sites[0].weight.outputs[0].dtype or ir.DataType.FLOAT
    return constant(build.graph, f"{build.prefix}.shares", shares.astype(dtype.numpy()))


def _scales(sites: Sequence[Site]) -> NDArray[np.float32]:
    """Return the weights' scales per tensor, `[len(sites)]`."""
    return np.concatenate([array_of(site.weight.inputs[2]).astype(np.float32).reshape(1) for site in sites])


def _stacked(graph: ir.Graph, name: str, parts: Sequence[ir.Value | None]) -> ir.Value:
    """Return an initializer of parts one above the other, which are read when it is."""
    tensors = [part.const_value for part in parts if part is not None and part.const_value is not None]
    rows, (_, *rest) = sum(tensor.shape.numpy()[0] for tensor in tensors), tensors[0].shape.numpy()
    shape = ir.Shape([rows, *rest])
    tensor = ir.LazyTensor(partial(_stack, tensors, name), tensors[0].dtype, shape, name=name)
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _stack(tensors: Sequence[ir.TensorProtocol], name: str) -> ir.TensorProtocol:
    return ir.tensor(np.concatenate([tensor.numpy() for tensor in tensors]), name=name)
