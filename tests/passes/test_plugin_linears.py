"""`plugin-linears`: what the nodes hold, which linears are taken, and what is left of the others."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from both_sides import as_text, evaluate
from plugin_sides import RECIPES, gemms, on_reference, plugin_lowered, quantizers, relative, until
from torch import nn

import nvfp4_trt
from nvfp4_trt.passes import PluginBodies, PluginLinears, lower
from nvfp4_trt.passes.graph import array_of
from nvfp4_trt.passes.plugin_nodes import layers_of
from nvfp4_trt.plugin.fields import FIELDS
from nvfp4_trt.portable import find_sites, load, unswizzle_bytes


def after_pass(path):
    model = until(PluginLinears, path)
    before = {
        site.layer: [array_of(value).copy() for value in site.weight.inputs] for site in find_sites(model.graph)
    }
    return model, before, PluginLinears().run(model)


@pytest.mark.parametrize("name", ["heads", "gpt2", "encoder", "llama"])
def test_weights_keep_their_bytes(portable, name):
    model, before, changes = after_pass(portable(name).path)
    assert changes == len(gemms(model)) == len(before)
    for node in gemms(model):
        packed, block_scale, scale = before[layers_of(node)[0]]
        codes, tiles, beta = (array_of(value) for value in node.inputs[3:6])
        assert (codes.dtype, tiles.dtype, beta.dtype) == (np.int8, np.int8, np.float32)
        assert codes.tobytes() == packed.tobytes()
        assert codes.shape == packed.shape
        assert unswizzle_bytes(tiles.view(np.uint8), *block_scale.shape).tobytes() == block_scale.tobytes()
        assert beta.tolist() == [float(scale)]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["heads", "llama", "encoder"])
def test_nodes_are_what_the_plugins_fields_say(portable, name, recipe):
    """The plugins' own record of attributes takes each node, and names as many inputs and outputs."""
    model, _ = plugin_lowered(portable(name, recipe).path)
    for node in (*quantizers(model), *gemms(model)):
        given = {key: attribute.value for key, attribute in node.attributes.items()}
        assert (given.pop("plugin_version"), given.pop("plugin_namespace")) == ("1", "nvfp4")
        fields = FIELDS[node.op_type](**given)
        assert len(node.inputs) == len(fields.inputs)
        assert len(node.outputs) == len(fields.outputs)
        assert None not in node.inputs
        assert all(value.dtype is not None and value.shape is not None for value in node.outputs)


def test_one_quantizer_for_linears_that_share_an_activation(portable):
    model, _, changes = after_pass(portable("heads").path)
    assert changes == 5
    assert [len({user for user, _ in node.outputs[0].uses()}) for node in quantizers(model)] == [3, 1, 1]


def test_the_bias_becomes_part_of_the_gemm(portable):
    model, _, _ = after_pass(portable("encoder").path)
    assert all(node.attributes.get_int("has_bias") == 1 for node in gemms(model))
    assert not any(node.op_type == "Add" and node.inputs[1].const_value is not None for node in model.graph)


def test_without_a_bias_there_is_none(portable):
    model, _, _ = after_pass(portable("bare").path)
    (node,) = gemms(model)
    assert node.attributes.get_int("has_bias") == 0
    assert model.graph.outputs[0] is node.outputs[0]


def test_nothing_unused_is_left(portable):
    model, _, _ = after_pass(portable("llama").path)
    assert not find_sites(model.graph)
    assert all(value.uses() for name, value in model.graph.initializers.items() if "weight" in name)
    assert not any(node.domain == "nvfp4" for node in model.graph)


def test_shapes_that_the_plugin_does_not_take_stay(portable):
    """fc1 has N = 100; fc2 (K = 100) and the head (N = 1) are no FP4 layers at all."""
    exported = portable("mlp")
    model, lowering = plugin_lowered(exported.path)
    assert [layers_of(node) for node in gemms(model)] == [("fc3",)]
    assert list(lowering.gemms.values()) == [("fc1",)]
    assert any(node.op_type == "TRT_FP4DynamicQuantize" for node in model.graph)


class Mixed(nn.Module):
    """A norm whose result two linears read; N = 20 of the second is nothing for the plugin."""

    def __init__(self):
        super().__init__()
        self.norm, self.taken, self.left = nn.LayerNorm(64), nn.Linear(64, 48), nn.Linear(64, 20)

    def forward(self, x):
        normed = self.norm(x)
        return self.taken(normed), self.left(normed)


def test_one_activation_may_feed_both_kinds(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 64)
    path = nvfp4_trt.export(Mixed().eval(), tmp_path / "mixed.onnx", inputs=[{"x": x}]).path
    feeds = {"x": x.numpy()}
    model, lowering = plugin_lowered(path)
    assert [layers_of(node) for node in gemms(model)] == [("taken",)]
    assert list(lowering.gemms.values()) == [("left",)]
    (node,) = quantizers(model)
    assert node.attributes.get_int("emit_values") == 1
    native, _ = load(path)
    lower(native)
    assert relative(evaluate(native, feeds), on_reference(model, feeds)) < 2**-20


def test_an_activation_that_is_also_used_elsewhere_keeps_its_native_form_there(portable):
    exported = portable("bare")
    model = until(PluginLinears, exported.path)
    values = find_sites(model.graph)[0].activation.outputs[0]
    model.graph.outputs.append(values)
    before = evaluate(model, exported.feeds)
    assert PluginLinears().run(model) == 1
    assert len(gemms(model)) == 1
    assert values.producer().op_type == "Dequantize"
    assert values.is_graph_output()
    PluginBodies().run(model)
    assert relative(before, on_reference(model, exported.feeds)) < 2**-20


@pytest.mark.parametrize("attribute", ["floor", "zero_amax_scale", "zero_block_scale"])
def test_another_scale_rule_is_left(portable, attribute):
    model = until(PluginLinears, portable("bare").path)
    quantize = find_sites(model.graph)[0].quantize
    quantize.attributes[attribute] = ir.AttrFloat32(attribute, 0.125)
    before = as_text(model)
    assert PluginLinears().run(model) == 0
    assert as_text(model) == before


def test_a_scale_of_another_tensor_is_left(portable):
    model = until(PluginLinears, portable("bare").path)
    scale = find_sites(model.graph)[0].scale
    other = ir.node("Neg", [scale.inputs[0]], name="other")
    other.outputs[0].name = "other"
    model.graph.insert_before(scale, other)
    scale.replace_input_with(0, other.outputs[0])
    before = as_text(model)
    assert PluginLinears().run(model) == 0
    assert as_text(model) == before
