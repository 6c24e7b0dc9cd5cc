"""The nodes that lowering writes, against what the plugins take: names, counts, dtypes, shapes."""

import onnx
import pytest
from onnx import shape_inference

from nvfp4_trt.building import lower_file
from nvfp4_trt.plugin import DOMAIN, GEMM, NAMESPACE, QUANTIZE, VERSION
from nvfp4_trt.plugin.fields import OUTPUT_DTYPES, read_fields
from nvfp4_trt.plugin.formats import output_dtypes

_DTYPES = {**OUTPUT_DTYPES, onnx.TensorProto.INT8: "i8"}


def attributes_of(node):
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


@pytest.mark.parametrize("name", ["heads", "gpt2", "encoder"])
@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a4-dynamic", "w4a4-static", "w4a4-single-level"])
def test_every_plugin_node_is_one_that_the_plugin_takes(portable, tmp_path, name, recipe):
    lowering = lower_file(portable(name, recipe).path, tmp_path / "bodies.onnx", plugin=True, bodies=True)
    model = onnx.load(tmp_path / "bodies.onnx")
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {
        value.name: value.type.tensor_type for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    dtypes = {each: tensor.elem_type for each, tensor in known.items()}
    dtypes |= {each.name: each.data_type for each in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    assert {node.op_type for node in nodes} == {QUANTIZE, GEMM}
    for node in nodes:
        given = attributes_of(node)
        assert given.pop("plugin_version") == VERSION.encode()
        assert given.pop("plugin_namespace") == NAMESPACE.encode()
        fields = read_fields(node.op_type, given)
        assert len(node.input) == len(fields.inputs)
        assert all(node.input)
        assert len(node.output) == len(fields.outputs)
        wanted = output_dtypes(fields, [_DTYPES[dtypes[each]] for each in node.input])
        assert [_DTYPES[dtypes[each]] for each in node.output if each in dtypes] == [
            dtype for dtype, each in zip(wanted, node.output, strict=True) if each in dtypes
        ]
    assert {node.name for node in nodes if node.op_type == GEMM} == set(lowering.plugin_gemms)
