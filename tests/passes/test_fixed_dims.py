import numpy as np
import onnx
import onnx_ir as ir
from both_sides import evaluate

from nvfp4_trt.passes import fix_dims

MODEL = """<ir_version: 11, opset_import: ["": 23]>
g (float[batch, sequence, 4] x) => (float[batch, width] y)
<float[batch, sequence, 4] doubled, int64[2] shape> {
  doubled = Add(x, x)
  first = Shape<end = 1>(x)
  rest = Constant<value_ints = [-1]>()
  shape = Concat<axis = 0>(first, rest)
  y = Reshape(doubled, shape)
}"""


def parsed():
    return ir.from_proto(onnx.parser.parse_model(MODEL))


def shapes(model):
    return {v.name: [d if isinstance(d, int) else d.value for d in v.shape] for v in named(model)}


def named(model):
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return [value for value in values if value.shape is not None]


def test_a_named_dimension_becomes_its_extent_everywhere():
    x = {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
    model = parsed()
    before = evaluate(model, x)["y"]
    assert fix_dims(model, {"batch": 2}) == 3  # of x, doubled and y
    found = shapes(model)
    assert (found["x"], found["doubled"], found["y"]) == ([2, "sequence", 4], [2, "sequence", 4], [2, "width"])
    after = evaluate(model, x)["y"]
    assert (after.shape, after.tobytes()) == (before.shape, before.tobytes())
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_name_that_the_graph_has_not_changes_nothing():
    model = parsed()
    assert fix_dims(model, {"no_such_dimension": 3}) == 0
    assert shapes(model) == shapes(parsed())
