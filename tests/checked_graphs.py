"""Graphs of one product each, in TensorRT's dialect: forms that rules of `check` are about, and shapes."""

import random

import numpy as np
import onnx
from onnx import TensorProto, compose, helper
from tiny_networks import OPSETS, Network

E4M3, E2M1, FLOAT = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1, TensorProto.FLOAT
DTYPES = {"float32": FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


class Graph(Network):
    """A network with inputs and outputs of its own."""

    def __init__(self):
        super().__init__()
        self.given, self.results = [], []
        self.scale = self.constant("scale", np.float32(1))

    def input(self, name, shape, dtype=FLOAT):
        self.given.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def axes(self, *numbers):
        """Return a constant of integers."""
        return self.constant(f"i{len(self.constants)}", np.array(numbers, dtype=np.int64))

    def raw(self, name, dtype, shape):
        """Add a constant of one byte an element, or of half: the values matter to no one."""
        size = int(np.prod(shape)) // (2 if dtype == E2M1 else 1)
        self.constants.append(helper.make_tensor(name, dtype, shape, bytes([0x38]) * size, raw=True))
        return name

    def weight(self, *shape, axis=-1, two_level=True):
        """Add codes of any rank, in blocks along `axis`; return them dequantized."""
        steps = list(shape)
        steps[axis] //= 16
        if two_level:
            scale = self.constant("w.scale", np.float32(0.01))
            wide = self.add("DequantizeLinear", [self.raw("w.steps", E4M3, steps), scale], "w/scales")
        else:
            wide = self.constant("w.steps", np.ones(steps, np.float32))
        codes = self.raw("w", E2M1, list(shape))
        return self.add("DequantizeLinear", [codes, wide], "w/values", axis=axis, block_size=16)

    def turned(self, value, *order):
        return self.add("Transpose", [value], f"{value}/turned", perm=order or (1, 0))

    def quantizer_of_operators(self, x, shape, *, run_time=False):
        """Quantize by standard operators."""
        scale = self.add("ReduceMax", [x], "x/amax", keepdims=0) if run_time else self.scale
        blocks = self.add("Reshape", [x, self.axes(*shape[:-1], shape[-1] // 16, 16)], "x/blocks")
        peaks = self.add("ReduceMax", [self.add("Abs", [blocks], "x/abs"), self.axes(-1)], "x/peaks", keepdims=0)
        wanted = self.add("Div", [peaks, self.constant("six", np.float32(6))], "x/wanted")
        steps = self.add("QuantizeLinear", [wanted, scale], "x/steps", output_dtype=E4M3)
        wide = self.add("DequantizeLinear", [steps, scale], "x/wide")
        codes = self.add("QuantizeLinear", [x, wide], "x/codes", axis=-1, block_size=16, output_dtype=E2M1)
        return self.add("DequantizeLinear", [codes, wide], "x/values", axis=-1, block_size=16)

    def through_bytes(self, x, dtype):
        """Quantize per tensor to FP8 or INT8, and back."""
        return self.add(
            "DequantizeLinear",
            [self.add("QuantizeLinear", [x, self.scale], f"{x}/bytes", output_dtype=dtype), self.scale],
            f"{x}/back",
        )

    def finish(self, *operands, op="MatMul", **attributes):
        self.results.append(self.add(op, operands, "y", **attributes))
        return self

    @property
    def made(self):
        outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in self.results]
        graph = helper.make_graph(self.nodes, "tiny", self.given, outputs, self.constants)
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=11)


def linear(
    shape=(8, 64), n=64, *, dtype="float32", bias=False, gemm=None, behind_x=(), behind_w=(), turn=True, both=False
):
    """Return a linear layer; `behind_…` are operators behind a dequantizer: (operator, inputs, attributes)."""
    graph = Graph()
    x = graph.quantized(graph.input("x", shape), graph.scale)
    w = graph.quantized_weight(n, shape[-1])
    if dtype != "float32":
        x, w = (graph.add("Cast", [v], f"{v}/cast", to=DTYPES[dtype]) for v in (x, w))
    for op, integers, attributes in behind_x:
        x = graph.add(op, [x, *([graph.axes(*i) for i in integers])], f"{x}/{op}", **attributes)
    for op, integers, attributes in behind_w:
        w = graph.add(op, [w, *([graph.axes(*i) for i in integers])], f"{w}/{op}", **attributes)
    if both:
        graph.results.append(graph.add("Relu", [x], "also"))
    if gemm is not None:
        more = [graph.constant("c", np.zeros(n, np.float32))] if bias else []
        return graph.finish(x, w, *more, op="Gemm", **gemm)
    graph.finish(x, graph.turned(w) if turn else w)
    if bias:
        kind = {"float32": np.float32, "float16": np.float16}[dtype]
        graph.results = [graph.add("Add", ["y", graph.constant("c", np.ones(n, kind))], "z")]
    if dtype != "float32":
        graph.results = [graph.add("Cast", [graph.results[0]], "wide", to=FLOAT)]
    return graph


def _arithmetic(where, op):
    graph = Graph()
    x, w = graph.quantized(graph.input("x", (8, 64)), graph.scale), graph.quantized_weight(64, 64)
    zero = graph.constant("zero", np.float32(0))
    if where == "x":
        x = graph.add(op, [x, zero], "between")
    else:
        w = graph.add(op, [w, zero], "between")
    return graph.finish(x, graph.turned(w))


def _attention(k=64, n=32, *, heads=0):
    """Return a product of two activations, in rank 3, or in rank 4 behind a reshape."""
    graph = Graph()
    q = graph.quantized(graph.input("q", (2, 32, k)), graph.scale, "q")
    key = graph.quantized(graph.input("k", (2, n, k)), graph.scale, "k")
    if not heads:
        return graph.finish(q, graph.turned(key, 0, 2, 1))
    q = graph.add("Reshape", [q, graph.axes(1, heads, 32, k)], "q4")
    key = graph.add("Reshape", [key, graph.axes(1, heads, n, k)], "k4")
    return graph.finish(q, graph.turned(key, 0, 1, 3, 2))


def _by_operators(shape=(8, 64), n=64, *, run_time=False):
    graph = Graph()
    x = graph.quantizer_of_operators(graph.input("x", shape), shape, run_time=run_time)
    return graph.finish(x, graph.turned(graph.quantized_weight(n, shape[-1])))


def _weight(*shape, x=(8, 64), order=(1, 0), **options):
    graph = Graph()
    read = graph.quantized(graph.input("x", x), graph.scale)
    w = graph.weight(*shape, **options)
    return graph.finish(read, graph.turned(w, *order) if order else w)


def _weight_only(n=64, k=64):
    graph = Graph()
    return graph.finish(graph.input("x", (8, k)), graph.turned(graph.quantized_weight(n, k)))


def _mixed(kind, *, weight="fp4"):
    """Quantize an activation to FP8 or INT8, to FP4 (None), or not at all (float), beside a weight of any kind."""
    graph = Graph()
    x = graph.input("x", (8, 64))
    if kind is None:
        x = graph.quantized(x, graph.scale)
    elif kind != "float":
        x = graph.through_bytes(x, kind)
    if weight == "fp4":
        w = graph.quantized_weight(64, 64)
    elif weight == "float":
        w = graph.constant("w", np.ones((64, 64), np.float32))
    else:
        codes = graph.raw("w", E4M3 if weight == "fp8" else kind, [64, 64])
        w = graph.add("DequantizeLinear", [codes, graph.scale], "w/values")
    return graph.finish(x, graph.turned(w))


def _left():
    graph = Graph()
    x = graph.quantized(graph.input("x", (64, 64)), graph.scale)
    return graph.finish(graph.quantized_weight(64, 64), graph.turned(x))


def _convolution(kernel=1, groups=1, **attributes):
    graph = Graph()
    x = graph.input("x", (1, 64, 8, 8))
    w = graph.weight(32, 64 // groups * kernel * kernel)
    w = graph.add("Reshape", [w, graph.axes(32, 64 // groups, kernel, kernel)], "w/4")
    return graph.finish(x, w, op="Conv", group=groups, **attributes)


def _plain(dtype):
    graph = Graph()
    x = graph.input("x", (8, 64), DTYPES[dtype])
    w = graph.constant("w", np.ones((64, 32), np.dtype(dtype)))
    graph.finish(x, w)
    graph.results = [graph.add("Cast", ["y"], "wide", to=FLOAT)]
    return graph


def _padded_k():
    graph = Graph()
    padded = graph.add("Pad", [graph.input("x", (8, 40)), graph.axes(0, 0, 0, 8)], "padded")
    return graph.finish(graph.quantized(padded, graph.scale), graph.turned(graph.quantized_weight(64, 48)))


def _gathered():
    """A quantized table whose rows a layer reads as they are."""
    graph = Graph()
    ids = graph.input("ids", (8,), TensorProto.INT64)
    rows = graph.add("Gather", [graph.weight(32, 64), ids], "rows")
    return graph.finish(rows, graph.constant("float.weight", np.ones((64, 32), np.float32)))


FORMS = {
    "plain float16": lambda: _plain("float16"),
    "plain float32": lambda: _plain("float32"),
    "gemm": lambda: linear(gemm={"transB": 1}),
    "gemm with bias": lambda: linear(gemm={"transB": 1}, bias=True),
    "gemm with alpha": lambda: linear(gemm={"transB": 1, "alpha": 2.0}),
    "gemm with beta": lambda: linear(gemm={"transB": 1, "beta": 0.5}, bias=True),
    "gemm, blocks along n": lambda: linear(gemm={}),
    "gemm, blocks along m": lambda: linear((64, 64), gemm={"transA": 1, "transB": 1}),
    "blocks along n": lambda: linear(turn=False),
    "blocks along m": lambda: linear((64, 64), behind_x=[("Transpose", [], {"perm": [1, 0]})]),
    "weight k x n": lambda: _weight(64, 32, axis=0, order=()),
    "weights of rank 3": lambda: _weight(2, 32, 64, x=(2, 8, 64), order=(0, 2, 1)),
    "weights of rank 3, k 16": lambda: _weight(2, 32, 16, x=(2, 8, 16), order=(0, 2, 1)),
    "weights of rank 3, n 1": lambda: _weight(2, 1, 64, x=(2, 8, 64), order=(0, 2, 1)),
    "single level": lambda: _weight(64, 64, two_level=False),
    "weight on the left": _left,
    "identity behind x": lambda: linear(behind_x=[("Identity", [], {})]),
    "identity behind w": lambda: linear(behind_w=[("Identity", [], {})]),
    "reshape behind x": lambda: linear((2, 8, 64), behind_x=[("Reshape", [(16, 64)], {})]),
    "reshape to rank 4": lambda: linear((2, 8, 64), behind_x=[("Reshape", [(2, 2, 4, 64)], {})]),
    "reshapes behind w": lambda: linear(
        behind_w=[("Reshape", [(1, 64, 64)], {}), ("Reshape", [(64, 64)], {})],
    ),
    "unsqueeze and squeeze behind w": lambda: linear(
        behind_w=[("Unsqueeze", [(0,)], {}), ("Squeeze", [(0,)], {})],
    ),
    "expand behind w": lambda: linear(behind_w=[("Expand", [(64, 64)], {})]),
    "relu behind x": lambda: linear(behind_x=[("Relu", [], {})]),
    "slice behind x": lambda: linear(behind_x=[("Slice", [(0,), (4,), (0,)], {})]),
    "slice behind w": lambda: linear(behind_w=[("Slice", [(0,), (32,), (0,)], {})]),
    "gather behind x": lambda: linear(behind_x=[("Gather", [(0, 1, 2)], {"axis": 0})]),
    "gather behind w": lambda: linear(behind_w=[("Gather", [range(32)], {"axis": 0})]),
    "pad behind x": lambda: linear(behind_x=[("Pad", [(0, 0, 2, 0)], {})]),
    "add behind x": lambda: _arithmetic("x", "Add"),
    "add behind w": lambda: _arithmetic("w", "Add"),
    "mul behind x": lambda: _arithmetic("x", "Mul"),
    "mul behind w": lambda: _arithmetic("w", "Mul"),
    "x used elsewhere": lambda: linear(both=True),
    "quantized by operators": _by_operators,
    "the same, rank 4": lambda: _by_operators((1, 2, 8, 64)),
    "the same, k 16": lambda: _by_operators((8, 16)),
    "the same, n 1": lambda: _by_operators(n=1),
    "the same, run-time scale": lambda: _by_operators(run_time=True),
    "weight only": _weight_only,
    "fp8 activation": lambda: _mixed(E4M3),
    "float weight": lambda: _mixed(None, weight="float"),
    "fp8 weight": lambda: _mixed("float", weight="fp8"),
    "fp8": lambda: _mixed(E4M3, weight="same"),
    "int8": lambda: _mixed(TensorProto.INT8, weight="same"),
    "k padded": _padded_k,
    "rows of a quantized table": _gathered,
    "queries and keys": _attention,
    "queries and keys, k 16": lambda: _attention(16),
    "queries and one key": lambda: _attention(n=1),
    "queries and keys, odd n": lambda: _attention(n=33),
    "queries and keys, rank 4": lambda: _attention(heads=2),
    "nothing": lambda: linear((0, 64)),
    "1x1 convolution": _convolution,
    "patches": lambda: _convolution(2, strides=[2, 2]),
}
"""Form → what makes its graph; all are built together."""


def _shapes(count):
    """Draw linear layers: rank, rows, K, N, dtype, bias."""
    draw = random.Random(0)  # noqa: S311 (the same ones each time)
    for _ in range(count):
        n, rows = draw.choice([1, 2, 3, 8, 17, 40, 129]), draw.choice([(1,), (8,), (40,), (2, 5), (1, 8)])
        k = draw.choice([16, 32, 48, 80, 144, 1008][1 in {n, *rows[:1]} :])  # no single block, which is refused
        shape = (*rows, k)
        dtype = draw.choice(["float32", "float16", "bfloat16"])
        bias = dtype != "bfloat16" and draw.random() < 0.5
        yield f"{shape} n {n} {dtype}{' bias' if bias else ''}", (shape, n, dtype, bias)


SHAPES = {
    name: lambda shape=shape, n=n, dtype=dtype, bias=bias: linear(shape, n, dtype=dtype, bias=bias)
    for name, (shape, n, dtype, bias) in _shapes(24)
}


def _quantizer(shape=(8, 64), *, block=16, run_time=False):
    graph = Graph()
    x = graph.input("x", shape)
    scale = graph.add("ReduceMax", [x], "amax", keepdims=0) if run_time else graph.scale
    attributes = {"domain": "trt", "axis": -1, "block_size": block, "scale_type": E4M3}
    codes, steps = graph.add("TRT_FP4DynamicQuantize", [x, scale], "quantize", 2, **attributes)
    wide = graph.add("DequantizeLinear", [steps, scale], "wide")
    values = graph.add("DequantizeLinear", [codes, wide], "values", axis=-1, block_size=block)
    return graph.finish(values, graph.turned(graph.quantized_weight(64, shape[-1])))


def _qdq():
    graph = Graph()
    w = graph.add(
        "TRT_FP4QDQ", [graph.constant("w", np.ones((64, 64), np.float32))], "qdq", domain="trt", block_size=16
    )
    return graph.finish(graph.quantized(graph.input("x", (8, 64)), graph.scale), graph.turned(w))


def _foreign():
    graph = Graph()
    x, w = graph.input("x", (8, 64)), graph.constant("w", np.ones((64, 64), np.float32))
    return graph.finish(x, w, op="FusedMatMul", domain="com.microsoft")


REFUSED = {
    "quantizer-rank": lambda: _quantizer((1, 2, 8, 64)),
    "quantizer-block": lambda: _quantizer(block=32),
    "quantizer-scale": lambda: _quantizer(run_time=True),
    "one-block": lambda: linear((1, 16), 8),
    "unknown-quantizer": _qdq,
    "foreign-operator": _foreign,
}
"""Rule → what makes a graph that TensorRT refuses."""


def together(models):
    """Return one model that holds all graphs beside one another; names begin with `NAME|`."""
    graph = onnx.GraphProto(name="all")
    for name, model in models.items():
        part = compose.add_prefix(model, f"{name}|").graph
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
        graph.input.extend(part.input)
        graph.output.extend(part.output)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=11)
