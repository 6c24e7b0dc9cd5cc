import onnx
import onnx_ir as ir
import pytest

from nvfp4_trt.costing import shapes_at
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load


@pytest.fixture(scope="module")
def lowered(portable):
    def make(name: str) -> ir.Model:
        model, _ = load(portable(name).path)
        lower(model)
        return model

    return make


@pytest.mark.parametrize(("name", "shape"), [("heads", (4, 24, 64)), ("llama", (3, 5, 64)), ("rows", (7, 64))])
def test_shapes_are_those_of_onnx_where_it_finds_them(lowered, name, shape):
    model = lowered(name)
    found = shapes_at(model, {model.graph.inputs[0].name: shape})
    assert not found.unknown
    proto = ir.to_proto(model)
    for dim, extent in zip(proto.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = extent
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    theirs = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph.value_info
    compared = 0
    for value in theirs:
        kind = value.type.tensor_type
        if value.name not in found.tensors or not kind.HasField("shape"):
            continue
        dims = kind.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            assert found.tensors[value.name].shape == tuple(dim.dim_value for dim in dims), value.name
            compared += 1
    assert compared > 10


def test_shapes_behind_computed_reshapes_are_found(lowered):
    found = shapes_at(lowered("heads"), {"x": (4, 24, 64)})
    (attention,) = [node for node in found.nodes.values() if node.op_type == "Attention"]
    assert [found.tensors[name].shape for name in attention.inputs] == [(4, 4, 24, 16)] * 3
    assert {found.tensors[name].pattern for name in attention.inputs} == {(-1, 4, -1, 16)}
    assert (4, 4, 24, 24) in {inner.shape for inner in attention.inner}


def test_operations_are_counted_where_matrices_are_multiplied(lowered):
    found = shapes_at(lowered("heads"), {"x": (4, 24, 64)})
    layers = {name: flops for name, flops in found.flops.items() if name.endswith("/MatMul")}
    assert layers["query+key+value/MatMul"] == 3 * layers["out/MatMul"] == 3 * 2 * 4 * 24 * 64 * 64
    assert layers["pooler/MatMul"] == 2 * 4 * 64 * 48
    (attention,) = set(found.flops) - set(layers)
    assert found.flops[attention] == 2 * (2 * 4 * 4 * 24 * 24 * 16)


def test_a_lookup_takes_rows_of_its_table(lowered):
    model = lowered("gpt2")
    found = shapes_at(model, {model.graph.inputs[0].name: (2, 12)})
    tables = dict(found.lookups.values())
    assert tables[320, 64] == 2 * 12 * 64


def test_the_model_stays_as_it_is_and_its_weights_untouched(lowered):
    model = lowered("rows")
    before = ir.to_proto(model).SerializeToString()
    shapes_at(model, {"input": (5, 64)})
    assert ir.to_proto(model).SerializeToString() == before

    def refuse() -> ir.Tensor:
        raise AssertionError("a weight was read")

    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor.size > 64:
            value.const_value = ir.LazyTensor(refuse, dtype=tensor.dtype, shape=tensor.shape, name=value.name)
    assert shapes_at(model, {"input": (5, 64)}).tensors["input"].shape == (5, 64)


def test_inputs_that_do_not_fit_are_refused(lowered):
    model = lowered("rows")
    with pytest.raises(ValueError, match="input needs a shape of 2 numbers"):
        shapes_at(model, {})
    with pytest.raises(ValueError, match="input needs a shape of 2 numbers"):
        shapes_at(model, {"input": (5,)})
    with pytest.raises(ValueError, match="not \\[5, 32\\]"):
        shapes_at(model, {"input": (5, 32)})


def test_a_tensor_of_an_unknown_operator_is_named():
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 4]))
    strange = ir.node("Strange", [x], domain="nobody")
    strange.outputs[0].name = "y"
    after = ir.node("Relu", [strange.outputs[0]])
    after.outputs[0].name = "z"
    graph = ir.Graph([x], [after.outputs[0]], nodes=[strange, after], opset_imports={"": 23, "nobody": 1})
    found = shapes_at(ir.Model(graph, ir_version=11), {"x": (3, 4)})
    assert found.unknown == ("y", "z")
    after.outputs[0].shape = ir.Shape(["n", 4])  # what the model itself states counts
    assert shapes_at(ir.Model(graph, ir_version=11), {"x": (3, 4)}).tensors["z"].shape == (3, 4)
