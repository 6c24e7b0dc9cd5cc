"""How long the source of a kernel is foreseen to be, and which sources are stored once."""

import itertools

import onnx_ir as ir
import pytest

from nvfp4_trt.auditing import Operand, Row
from nvfp4_trt.planning.kernels import Kernel
from nvfp4_trt.planning.outline import Outline
from nvfp4_trt.planning.sizes import code_bytes
from nvfp4_trt.planning.sources import PRELUDE, Text, text_of

CODES = Text(operations=2, reads=2, codes=True)


def kernel(text, *, kind="fused", dtype="Half", embedded=""):
    x, scale = Operand(name="x", dims=(8, 64), dtype=dtype), Operand(name="s", dims=(8, 1), dtype="Float")
    row = Row(name="k", type="kgen", inputs=(x, scale), constants=(), outputs=(), onnx=())
    return Kernel(row, kind, text=text, embedded=embedded)


def product():
    codes = Operand(name="x", dims=(8, 64), dtype="FP4E2M1")
    row = Row(name="g", type="gemm", inputs=(codes,), constants=(), outputs=(), onnx=())
    return Kernel(row, "gemm")


def grown(more, *, narrow, dynamic=True):
    """Return by how many bytes an engine grows with each of several kernels that are equal."""
    sizes = [code_bytes([product(), *[more] * count], dynamic=dynamic, narrow=narrow) for count in range(5)]
    return [after - before for before, after in itertools.pairwise(sizes)]


def test_with_dynamic_shapes_a_kernel_is_there_twice_and_longer():
    for text in (CODES, Text(operations=9, moves=1, reads=3), Text(operations=20, norms=1, reductions=1)):
        fixed = text.bytes(dynamic=False, narrow=False)
        narrow = text.bytes(dynamic=True, narrow=True)
        assert 2 * fixed <= narrow <= text.bytes(dynamic=True, narrow=False)


def test_every_launch_has_its_source():
    each = grown(kernel(Text(operations=5, reads=2)), narrow=False)
    assert min(each) == max(each) > PRELUDE


def test_equal_makers_of_codes_share_one_with_a_loosened_profile():
    first, second, *others = grown(kernel(CODES), narrow=True)
    assert first == second > PRELUDE
    assert max(others) < 1000
    assert min(grown(kernel(CODES._replace(turns=1)), narrow=True)) > PRELUDE
    assert min(grown(kernel(CODES), narrow=False)) > PRELUDE


@pytest.mark.parametrize("embedded", ["one", ""])
def test_quantizers_share_one_unless_their_scales_differ(embedded):
    first, *others = grown(kernel(Text(), kind="quantize", embedded=embedded), narrow=False)
    assert first > PRELUDE > max(others)
    two = [product(), *(kernel(Text(), kind="quantize", embedded=scale) for scale in ("one", "other"))]
    assert code_bytes(two, dynamic=False, narrow=False) > 2 * PRELUDE


def test_what_is_in_front_of_codes_is_counted_and_what_is_behind_is_not():
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([4, 16]))
    gelu = ir.node("Gelu", [x], {"approximate": "tanh"}, name="gelu")
    turn = ir.node("Transpose", gelu.outputs, {"perm": [1, 0]}, name="turn")
    magnitude = ir.node("Abs", turn.outputs, name="magnitude")
    apart = ir.Value(name="apart", const_value=ir.tensor([16, 1, 1, 4], name="apart"))
    parts = ir.node("Reshape", [magnitude.outputs[0], apart], name="parts")
    peak = ir.node("ReduceMax", parts.outputs, {"keepdims": 0}, name="peak")
    nodes = [gelu, turn, magnitude, parts, peak]
    one = ir.Value(name="one", const_value=ir.tensor(1.0, name="one"))
    codes = ir.node("QuantizeLinear", [peak.outputs[0], one], {"output_dtype": 23}, name="codes")
    codes.outputs[0].type = ir.TensorType(ir.DataType.FLOAT4E2M1)
    nodes.append(codes)
    graph = ir.Graph([x], codes.outputs, nodes=nodes, initializers=[apart, one], opset_imports={"": 23}, name="g")
    outline = Outline(ir.Model(graph, ir_version=10), {})
    found = text_of(nodes, outline, reads=1, statistics=(0, 0))
    assert found == Text(operations=9, moves=1, turns=1, reads=1, codes=True)
    assert not text_of(nodes[:2], outline, reads=1, statistics=(0, 0)).codes
