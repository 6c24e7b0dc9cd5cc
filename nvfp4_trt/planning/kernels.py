"""Groups of nodes → the kernels of the engine, each as a row of the layer record that it will have."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.auditing import Operand, Row
from nvfp4_trt.planning.fusion import Group, Kind
from nvfp4_trt.planning.operators import Role
from nvfp4_trt.planning.outline import Time
from nvfp4_trt.planning.sources import NO_TEXT, Text, text_of
from nvfp4_trt.planning.traffic import STATISTIC, Traffic
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    import onnx_ir as ir

    from nvfp4_trt.planning.factors import Factor
    from nvfp4_trt.planning.outline import Outline
    from nvfp4_trt.planning.products import Product

    Shape = tuple[int, ...]

_TILE_ROWS, _TILE_COLUMNS = 128, 4
_ROWS, _HEADED = 3, 4
_TABLES_OF_TILES = 6
"""Kernels that make a table of an attention's tiles where its mask is known but for the batch."""
_FIXED_MATH = ("keys turned", "scores", "softmax", "sums")
_OPEN_MATH = ("keys turned", "keys padded", "scores", "softmax", "scores padded", "values padded", "sums")
"""What an attention of 32 bits, for which TensorRT has no kernel, becomes where shapes are fixed or dynamic."""
_NOTABLE = 3


@dataclass(frozen=True)
class Kernel:
    """One predicted kernel."""

    row: Row
    """As the layer record will have it, with sizes in numbers."""
    kind: str
    """`gemm`, `quantize`, `swizzle`, `dequantize`, `attention`, `fused`, `convolution`, `host` or `opaque`."""
    layers: tuple[str, ...] = ()
    """Of a GEMM and of what serves one: the layers that it computes."""
    what: str = ""
    """The operators that it computes, in short."""
    operators: tuple[str, ...] = ()
    """All of them."""
    embedded: str = ""
    """A constant that is part of the code: the scale of a quantizer."""
    text: Text = NO_TEXT
    """What the length of its source depends on."""

    @property
    def code(self) -> str:
        """What its code is like, for its size."""
        if self.kind == "gemm":
            first = self.row.inputs[0].dtype if self.row.inputs else ""
            return {"FP4E2M1": "gemm fp4", "FP8": "gemm fp8"}.get(first, "gemm")
        makes_codes = any(operand.is_fp4 for operand in self.row.outputs)
        return "blocks" if self.kind == "fused" and makes_codes else self.kind

    @property
    def by_row(self) -> bool:
        """Whether it reads a scale for each row; what a norm leaves is none."""
        return any(x.dims[-1:] == (1,) and not x.name.endswith(STATISTIC) for x in self.row.inputs)

    @property
    def likeness(self) -> Hashable:
        """What kernels of one and the same source have in common."""
        operands = tuple((each.dims, each.dtype) for each in (*self.row.inputs, *self.row.outputs))
        return self.kind, self.operators, operands, self.embedded


def kernels_of(
    outline: Outline, groups: Sequence[Group], gemms: Mapping[str, tuple[str, ...]]
) -> Iterator[Kernel]:
    """Yield the kernels of an engine, in an order in which they can run.

    Args:
        outline: of the lowered graph.
        groups: what `fuse` returns.
        gemms: GEMM node → the layers that it computes.
    """
    makers = _Makers(outline, Traffic(outline, groups), gemms)
    if outline.dynamic:
        yield Kernel(_row("extents", "shape_call", (), (), ()), "host", what="extents")
    for group in groups:
        yield from makers.make(group)


def _row(
    name: str,
    kind: str,
    inputs: Sequence[Operand],
    constants: Sequence[Operand],
    outputs: Sequence[Operand],
    nodes: Sequence[ir.Node] = (),
) -> Row:
    return Row(
        name=name,
        type=kind,
        inputs=tuple(inputs),
        constants=tuple(constants),
        outputs=tuple(outputs),
        onnx=tuple(node.name for node in nodes if node.name),
    )


class _Makers:
    def __init__(self, outline: Outline, traffic: Traffic, gemms: Mapping[str, tuple[str, ...]]) -> None:
        self.outline, self.traffic, self.gemms = outline, traffic, gemms
        self._tabled: set[ir.Value] = set()
        self._by_codes: dict[ir.Value, list[Product]] = defaultdict(list)
        for product in traffic.products:
            for pair in product.sides:
                for side in pair:
                    self._by_codes[side.value].append(product)

    def make(self, group: Group) -> Iterator[Kernel]:
        if group.product is not None:
            yield from self._product(group, group.product)
        elif group.kind is Kind.QUANTIZER:
            yield from self._quantizer(group)
        elif group.kind is Kind.ATTENTION and self._is_followed(group):
            yield from self._attention(group)
        elif group.kind is Kind.CONVOLUTION:
            yield from self._convolution(group)
        else:
            yield self._fused(group)

    def _fused(self, group: Group) -> Kernel:
        read, constants, written = self.traffic.of(group)
        kind = "opaque" if group.kind is Kind.OPAQUE else "kgen"
        name = group.nodes[-1].name or group.nodes[-1].op_type
        row = _row(name, kind, read, constants, written, group.nodes)
        operators = tuple(node.op_type for node in group.nodes)
        ended, left = (sum(each.name.endswith(STATISTIC) for each in side) for side in (read, written))
        text = text_of(group.nodes, self.outline, reads=len(read), statistics=(ended, left))
        return Kernel(row, str(group.kind), what=_in_short(group.nodes), operators=operators, text=text)

    def _quantizer(self, group: Group) -> Iterator[Kernel]:
        (node,) = group.nodes
        read, _, _ = self.traffic.of(group)
        layers = self._fed(node)
        *lead, k = self.outline.shape(node.inputs[0]) or (0, 0)
        rows, name = math.prod(lead), node.name or "quantize"
        codes = Operand(name=f"{name}/codes", dims=(rows, k), dtype="FP4E2M1")
        flat = Operand(name=f"{name}/scales", dims=(rows, k // BLOCK), dtype="FP8")
        tiled = tiles(f"{name}/tiles", rows, k)
        fixed = not self.outline.dynamic and rows % _TILE_ROWS == 0
        made = _row(name, "kgen", read, (), (codes, tiled if fixed else flat), group.nodes)
        scale = node.inputs[1].name if len(node.inputs) > 1 and node.inputs[1] is not None else ""
        yield Kernel(made, "quantize", layers, "quantize", embedded=scale or "")
        if not fixed:
            yield Kernel(
                _row(f"{name}/swizzle", "kgen", (flat,), (), (tiled,)), "swizzle", layers, "scales in tiles"
            )

    def _fed(self, node: ir.Node) -> tuple[str, ...]:
        """Return the layers that read what a quantizer makes."""
        return tuple(
            dict.fromkeys(x for product in self._by_codes[node.outputs[0]] for x in self._layers(product))
        )

    def _layers(self, product: Product) -> tuple[str, ...]:
        known = (self.gemms.get(node.name or "", (node.name or "",)) for node in product.nodes)
        return tuple(layer for layers in known for layer in layers)

    def _product(self, group: Group, product: Product) -> Iterator[Kernel]:
        layers = self._layers(product)
        more, constants, _ = self.traffic.epilogue(group)
        made: list[Operand] = []
        first = product.nodes[0]
        for factor in product.dequantized:
            k_n = self.outline.shape(first.inputs[1])
            values = Operand(name=f"{factor.value.name}/values", dims=k_n, dtype="Half")
            held = self._factor(factor, constant=True)
            yield Kernel(
                _row(f"{factor.value.name}/dequantize", "kgen", (), held, (values,), factor.absorbed),
                "dequantize",
                layers,
                "weight dequantized",
            )
            made.append(values)
        left, inputs = product.sides[0][0], list(made)
        inputs = [*self._factor(left, constant=False), *made]
        for _, right in product.sides if not made else ():
            constant = self.outline.time(right.value) is Time.BUILD
            (constants if constant else inputs).extend(self._factor(right, constant=constant))
        if len(product.nodes) > 1:
            constants = [_side_by_side(constants)]
        outputs = self.traffic.results(group)
        if product.is_fp4:
            constants += [Operand(name=f"{first.name}/{i}", dims=(1,), dtype="Float") for i in range(2)]
        row = _row(first.name or "", "gemm", [*inputs, *more], constants, outputs, group.nodes)
        yield Kernel(row, "gemm", layers, _in_short(group.nodes), tuple(n.op_type for n in group.nodes))

    def _factor(self, factor: Factor, *, constant: bool) -> list[Operand]:
        """Return the operands of one side of a product."""
        shape = self.outline.shape(factor.value)
        dims = tuple(shape) if len(shape) > 1 else (1, *shape)
        codes = self.traffic.operand(factor.value)
        if not factor.is_fp4:
            return [codes]
        *lead, k = dims
        codes = codes.model_copy(update={"dims": (k, math.prod(lead)) if constant else (math.prod(lead), k)})
        name = factor.scale.name if factor.scale is not None else f"{factor.value.name}/scales"
        maker = factor.scale.producer() if factor.scale is not None else None
        if maker is not None and self.outline.role(maker) is Role.QUANTIZER:
            name = f"{maker.name}/tiles"
        return [codes, tiles(name or "", math.prod(lead), k)]

    def _is_followed(self, group: Group) -> bool:
        """Tell whether the shapes of query and keys are known; else it is one kernel, of unknown extents."""
        (node,) = group.nodes
        return all(len(self.outline.shape(value)) >= _ROWS for value in node.inputs[:2])

    def _attention(self, group: Group) -> Iterator[Kernel]:
        (node,) = group.nodes
        query, keys = (self.outline.shape(value) for value in node.inputs[:2])
        _, _, written = self.traffic.of(group)
        heads = query[1] if len(query) == _HEADED else node.attributes.get_int("q_num_heads", 1)
        batch, queries, size = query[0], query[-2], math.prod(query) // max(1, query[0] * heads * query[-2])
        past = self.outline.shape(node.inputs[4]) if len(node.inputs) > 4 else ()  # noqa: PLR2004
        length = keys[-2] + (past[-2] if past else 0)
        width = math.prod(written[0].dims) // max(1, batch * heads * queries) if written else size
        name, dtype = node.name or "attention", self.outline.dtype(node.inputs[0])  # type: ignore[arg-type]
        q = Operand(name=f"{name}/q", dims=(batch * heads, queries, size), dtype=dtype)
        k = Operand(name=f"{name}/k", dims=(batch * heads, size, length), dtype=dtype)
        v = Operand(name=f"{name}/v", dims=(batch * heads, length, width), dtype=dtype)
        out = Operand(name=f"{name}/out", dims=(batch * heads, queries, width), dtype=dtype)
        mask = node.inputs[3] if len(node.inputs) > 3 else None  # noqa: PLR2004
        extra = [] if mask is None else [Operand(name=f"{mask.name}", dims=self.outline.shape(mask), dtype=dtype)]
        if mask is not None and mask not in self._tabled:
            self._tabled.add(mask)
            yield from self._tables(mask)
        if dtype != "Float":
            yield Kernel(
                _row(f"{name} (mha)", "kgen", (q, k, *extra, v), (), (out,), group.nodes),
                "attention",
                what="Attention",
            )
            return
        scores = Operand(name=f"{name}/scores", dims=(batch * heads, queries, length), dtype=dtype)
        turned = k.model_copy(update={"name": f"{name}/turned"})
        weights = scores.model_copy(update={"name": f"{name}/weights"})
        parts: dict[str, tuple[str, list[Operand], Operand]] = {
            "keys turned": ("kgen", [k], turned),
            "keys padded": ("kgen", [turned], turned),
            "scores": ("gemm", [q, turned], scores),
            "softmax": ("kgen", [scores, *extra], weights),
            "scores padded": ("kgen", [weights], weights),
            "values padded": ("kgen", [v], v),
            "sums": ("gemm", [weights, v], out),
        }
        for part in _OPEN_MATH if self.outline.dynamic else _FIXED_MATH:
            kind, read, made = parts[part]
            yield Kernel(_row(f"{name}: {part}", kind, read, (), (made,)), "attention", what=part)

    def _tables(self, mask: ir.Value) -> Iterator[Kernel]:
        """Yield what TensorRT adds for a mask that is known when it builds, but for the batch."""
        known = self.outline.time(mask) is Time.EXTENTS and self.outline.dtype(mask) == "Bool"
        shape = mask.shape if mask.shape is not None else ()
        if known and len(shape) > 1 and all(isinstance(dim, int) for dim in list(shape)[-2:]):
            for index in range(_TABLES_OF_TILES):
                row = _row(f"{mask.name}/tiles {index}", "kgen", (), (), ())
                yield Kernel(row, "attention", what="table of the mask's tiles")

    def _convolution(self, group: Group) -> Iterator[Kernel]:
        (node,) = group.nodes
        read, constants, written = self.traffic.of(group)
        name = node.name or node.op_type
        turned = [each.model_copy(update={"name": f"{each.name}/turned"}) for each in read[:1]]
        yield Kernel(_row(f"{name}/layout", "kgen", read[:1], (), turned), "fused", what="layout")
        row = _row(name, "correlation", [*turned, *read[1:]], constants, written, group.nodes)
        yield Kernel(row, "convolution", (), node.op_type)


def _side_by_side(weights: Sequence[Operand]) -> Operand:
    """Return the weight of several products that are one."""
    k = weights[0].dims[0]
    width = sum(math.prod(weight.dims) for weight in weights) // max(1, k)
    return weights[0].model_copy(update={"name": "+".join(each.name for each in weights), "dims": (k, width)})


def tiles(name: str, rows: int, k: int) -> Operand:
    """Return the block scales of `[rows, k]` codes in tiles of 128 rows and four columns."""
    fours = -(-(k // BLOCK) // _TILE_COLUMNS)
    return Operand(name=name, dims=(-(-rows // _TILE_ROWS), 4, 32, fours, _TILE_COLUMNS), dtype="FP8")


def _in_short(nodes: Sequence[ir.Node]) -> str:
    """Name the operators of a kernel that say most: reductions and products, then others, each once."""
    names = list(dict.fromkeys(node.op_type for node in nodes if node.op_type not in _DULL))
    first = [name for name in names if name.endswith(("Normalization", "Softmax", "MatMul", "Gemm", "Gelu"))]
    shown = list(dict.fromkeys([*first, *names]))
    return ", ".join(shown[:_NOTABLE]) + (", …" if len(shown) > _NOTABLE else "") or nodes[-1].op_type


_DULL = frozenset({"Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Expand", "Flatten"})
