import onnx
import pytest

from nvfp4_trt.building.aot_nodes import use_aot_nodes
from nvfp4_trt.errors import FeatureUnsupportedError
from nvfp4_trt.passes import lower, strip_plugin_functions
from nvfp4_trt.plugin.aot import TENSORS
from nvfp4_trt.portable import load, save


def lowered(path):
    model, _ = load(path)
    lowering = lower(model, plugin=True)
    strip_plugin_functions(model)
    return model, lowering


@pytest.mark.parametrize("name", ["rows", "heads", "gpt2", "bare"])
@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a4-static"])
def test_every_node_of_a_kind_has_the_same_tensors(portable, tmp_path, name, recipe):
    model, lowering = lowered(portable(name, recipe).path)
    outputs = [value.name for value in model.graph.outputs]
    before = {node.name: node for node in model.graph if node.domain == "nvfp4.plugin"}
    held = {name: ([v.name for v in n.inputs], [v.name for v in n.outputs]) for name, n in before.items()}
    assert use_aot_nodes(model) == len(before) > 0
    save(model, tmp_path / "aot.onnx")
    graph = onnx.load(tmp_path / "aot.onnx").graph
    assert [value.name for value in graph.output] == outputs
    nodes = [node for node in graph.node if node.domain == "nvfp4.plugin"]
    assert {node.name for node in nodes} == set(before)
    assert set(lowering.plugin_gemms) <= set(before)
    for node in nodes:
        inputs, made = held[node.name]
        assert (len(node.input), len(node.output)) == tuple(map(len, TENSORS[node.op_type]))
        assert set(node.input) == set(inputs)
        assert set(made) <= set(node.output)
        assert len(set(node.output)) == len(node.output)
        attributes = {each.name for each in node.attribute}
        assert {"plugin_version", "plugin_namespace"} < attributes
    read = {name for node in graph.node for name in node.input}
    written = {name for node in graph.node for name in node.output}
    known = {value.name for value in (*graph.input, *graph.initializer)}
    assert read <= written | known | {""}


def test_a_scale_per_tensor_is_refused(portable):
    model, _ = lowered(portable("rows", "w4a4-dynamic").path)
    with pytest.raises(FeatureUnsupportedError, match="Nvfp4Quantize"):
        use_aot_nodes(model)
