"""A known number of rows that is no multiple of 128 → one that is, padded once for many linears."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, constant, remove_unused, replace_uses
from nvfp4_trt.portable import find_sites, is_ours

TILE = 128
"""Rows of a tile of block scales."""
_ELEMENTWISE = {"Add", "Cast", "Div", "Erf", "Gelu", "Mul", "Relu", "Sigmoid", "Sub", "Swish", "Tanh"}
_NORMS = {"LayerNormalization", "RMSNormalization"}
_ROWS = 2
"""The rank of rows."""


class PadRows(LoweringPass):
    """Gives each quantizer a multiple of 128 rows, the last of them zeros or what layers make of zeros.

    TensorRT pads block scales to whole tiles itself, by a kernel beside the quantizer. Here rows are padded where
    they are first known, and stay so through sums, norms and activations (the residual stream of a transformer);
    only what mixes rows, as an attention does, gets the real ones.

    Needs: `FlattenRows` has run and `OuterScale` has not; the number of rows is known (`fix_dims`). A quantizer
    whose values are read by anything but GEMMs, or whose scale is neither one number nor computed there, is left.
    After: the others see a multiple of 128 rows.
    Meaning: unchanged to the last bit. Each row is treated alone; where a scale is over the whole tensor, the rows
    behind the real ones are zeros, padded at that quantizer, since what a layer makes of zeros is not.
    """

    name = "pad-rows"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        by_quantizer: dict[ir.Node, list[ir.Node]] = {}
        activations: dict[ir.Node, set[ir.Node]] = {}
        scales: dict[ir.Node, ir.Node | None] = {}
        for site in find_sites(model.graph):
            if site.quantize is not None and site.activation is not None:
                by_quantizer.setdefault(site.quantize, []).append(site.gemm)
                activations.setdefault(site.quantize, set()).add(site.activation)
                scales[site.quantize] = site.scale if is_ours(site.scale) else None
        padding = _Padding(model.graph)
        order = {node: index for index, node in enumerate(model.graph)}
        found = sorted(by_quantizer, key=lambda each: order[each])
        changed = sum(padding.pad(node, activations[node], by_quantizer[node], scales[node]) for node in found)
        padding.restore()
        return changed


def missing_rows(rows: int) -> int:
    """Return how many rows are missing to whole tiles."""
    return -rows % TILE


def quantized_rows(graph: ir.Graph) -> set[int]:
    """Return the numbers of rows that NVFP4 quantizers of a portable graph see, as far as they are known."""
    quantizers = {site.quantize for site in find_sites(graph) if not is_ours(site.quantize, {"Fp8Quantize"})}
    read = [node.inputs[0] for node in quantizers if node is not None and node.inputs[0] is not None]
    return {rows for x in read if x is not None and (rows := _count(x)) is not None}


class _Padding:
    """The padded rows of values, made where they are first asked for."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.rows: dict[ir.Value, ir.Value] = {}
        """Value of real rows, of any rank → padded rows."""
        self.walked: dict[ir.Node, None] = {}
        """Nodes that have a like on padded rows."""
        self.cuts: list[ir.Value] = []
        """The real rows of GEMMs."""

    def pad(
        self, quantize: ir.Node, activations: set[ir.Node], gemms: list[ir.Node], scale: ir.Node | None
    ) -> bool:
        """Let a quantizer and its GEMMs work on padded rows; tell whether that was done."""
        x = quantize.inputs[0]
        count = None if x is None else _count(x)
        if x is None or count is None or len(x.shape or ()) != _ROWS or missing_rows(count) == 0:
            return False
        read = [out for node in activations for out in node.outputs]
        if any(y.is_graph_output() or any(user not in gemms for user, _ in y.uses()) for y in read):
            return False
        given = quantize.inputs[1] if scale is None and len(quantize.inputs) > 1 else None
        if given is not None and (given.shape is None or math.prod(map(_number, given.shape)) != 1):
            return False
        whole_tensor = scale is not None and scale.op_type.endswith("TensorScale")
        padded = self._zeros(x) if whole_tensor else self._padded(x)
        for reader in (quantize, scale):
            if reader is not None:
                reader.replace_input_with(0, padded)
        for node in (quantize, *activations, *gemms, *((scale,) if scale else ())):
            for value in node.outputs:
                if value.shape is not None and len(value.shape) == _ROWS:
                    value.shape = ir.Shape([count + missing_rows(count), value.shape[-1]])
        for gemm in gemms:
            self._cut(gemm, count)
        return True

    def _padded(self, value: ir.Value) -> ir.Value:
        """Return the padded rows of a value, which anything behind its node may use."""
        if value not in self.rows:
            node = value.producer()
            made = None if node is None else self._again(node, value)
            self.rows[value] = self._zeros(value) if made is None else made
        return self.rows[value]

    def _again(self, node: ir.Node, value: ir.Value) -> ir.Value | None:
        """Return a node's output made from padded rows, or None where it does not treat each row alone."""
        count, width, first = _count(value), value.shape and value.shape[-1], node.inputs[0]
        if node.domain or count is None or first is None:
            return None
        if node.op_type == "Reshape":
            if _count(first) != count or first.shape is None or first.shape[-1] != width:
                return None
            self.walked[node] = None
            return self._padded(first)
        norm = node.op_type in _NORMS and node.attributes.get_int("axis", -1) in {-1, len(value.shape or ()) - 1}
        if not norm and node.op_type not in _ELEMENTWISE:
            return None
        by_rows = [i for i, each in enumerate(node.inputs) if each is not None and _alike(each, value)]
        rest = [each for i, each in enumerate(node.inputs) if i not in by_rows and each is not None]
        if not by_rows or any(each.shape is None or len(each.shape) >= _ROWS for each in rest):
            return None
        inputs = [self._padded(each) if i in by_rows and each else each for i, each in enumerate(node.inputs)]
        build = Builder(self.graph, f"{node.name}/padded", before=node)
        made = build.node(node.op_type, inputs, node.op_type)
        made.attributes.update(node.attributes)
        if norm:
            made.attributes["axis"] = ir.AttrInt64("axis", -1)
        self.walked[node] = None
        return self._typed(made.outputs[0], value, count)

    def _zeros(self, value: ir.Value) -> ir.Value:
        """Return rows with rows of zeros behind them, made where the value is: users come in any order."""
        count, k = _count(value) or 0, (value.shape or [0])[-1]
        node, name = value.producer(), f"{value.name}/rows"
        build = Builder(self.graph, name, after=node) if node else Builder(self.graph, name, before=self.graph[0])
        if value.shape is not None and len(value.shape) != _ROWS:
            flat = constant(self.graph, f"nvfp4.rows_{k}", np.array([-1, k], dtype=np.int64))
            value = build.node("Reshape", [value, flat], "flat", like=value).outputs[0]
            value.shape = ir.Shape([count, k])
        pads = np.array([0, 0, missing_rows(count), 0], dtype=np.int64)
        made = build.node("Pad", [value, constant(self.graph, f"nvfp4.pads_{count}", pads)], "padded")
        return self._typed(made.outputs[0], value, count)

    def _typed(self, made: ir.Value, like: ir.Value, count: int) -> ir.Value:
        made.type, made.shape = like.type, ir.Shape([count + missing_rows(count), (like.shape or [0])[-1]])
        return made

    def _cut(self, gemm: ir.Node, count: int) -> None:
        """Let what reads a GEMM read its real rows."""
        out = gemm.outputs[0]
        cut = self._real(Builder(self.graph, gemm.name or "gemm", after=gemm), out, count)
        replace_uses(self.graph, out, cut, keep={cut.producer()})
        self.rows[cut] = out
        self.cuts.append(cut)

    def _real(self, build: Builder, padded: ir.Value, count: int) -> ir.Value:
        numbers = {"row_0": 0, f"row_{count}": count, "axis_0": 0}
        bounds = [constant(self.graph, f"nvfp4.{k}", np.array([n], dtype=np.int64)) for k, n in numbers.items()]
        cut = build.node("Slice", [padded, *bounds], "real_rows", like=padded).outputs[0]
        cut.shape = ir.Shape([count, (padded.shape or [0])[-1]])
        return cut

    def restore(self) -> None:
        """Give what else reads a value its real rows, and remove what nothing reads any more."""
        for node in self.walked:
            value = node.outputs[0]
            _fold_shapes(self.graph, value)
            others = [user for user, _ in value.uses() if user not in self.walked]
            if not others and not value.is_graph_output():
                continue
            build = Builder(self.graph, f"{node.name}/restored", before=node)
            cut = self._real(build, self.rows[value], _count(value) or 0)
            full = constant(
                self.graph, f"nvfp4.shape_{'_'.join(map(str, value.shape or ()))}", np.array(value.shape, np.int64)
            )
            made = build.node("Reshape", [cut, full], "shaped", like=value)
            replace_uses(self.graph, value, made.outputs[0], keep={made})
        order = {node: index for index, node in enumerate(self.graph)}
        behind = sorted(self.walked, key=lambda node: order[node], reverse=True)
        remove_unused(self.graph, [*behind, *(each.producer() for each in self.cuts)])


def _fold_shapes(graph: ir.Graph, value: ir.Value) -> None:
    """Put numbers for what reads no more than a value's shape."""
    shape = np.array([_number(dim) for dim in value.shape or ()], dtype=np.int64)
    for user, _ in list(value.uses()):
        if user.op_type == "Shape" and not user.domain:
            first, end = user.attributes.get_int("start", 0), user.attributes.get_int("end", len(shape))
            told = constant(graph, f"{user.name}/known", shape[first:end])
            replace_uses(graph, user.outputs[0], told)
            remove_unused(graph, [user])


def _number(dim: int | ir.SymbolicDim) -> int:
    return dim if isinstance(dim, int) else 0


def _count(value: ir.Value) -> int | None:
    """Return the number of rows of `[..., K]`, of what was flattened where it is not stated; None if unknown."""
    if value.shape is None or len(value.shape) < _ROWS:
        return None
    if all(isinstance(dim, int) for dim in value.shape):
        return math.prod(map(_number, value.shape[:-1]))
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    if source is None or source.shape is None or source.shape[-1] != value.shape[-1]:
        return None
    return _count(source)


def _alike(value: ir.Value, other: ir.Value) -> bool:
    return value.shape is not None and other.shape is not None and list(value.shape) == list(other.shape)
