import numpy as np
import onnx_ir as ir
import pytest
import torch
from both_sides import apply, assert_leaves_alone, assert_same_bits, prefix
from torch import nn

import nvfp4_trt
from nvfp4_trt.passes import MaximumApart, TensorRTQuantizers
from nvfp4_trt.portable import is_ours
from nvfp4_trt.recipe import DEFAULT_RECIPE

PER_TOKEN = DEFAULT_RECIPE


def activation_between(function, dtype=torch.float32, scaling=PER_TOKEN):
    """Return a function from a folder to the model of two linears, just in front of the pass, and its input."""

    def made(folder):
        torch.manual_seed(0)
        x = torch.randn(2, 5, 32, dtype=dtype)
        module = Between(function).to(dtype)
        nvfp4_trt.export(module, folder / "m.onnx", recipe=scaling, inputs=[{"x": x}], dynamic=["batch"])
        return prefix(TensorRTQuantizers, folder / "m.onnx"), {"x": x.numpy()}

    return made


class Between(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.up, self.down, self.function = nn.Linear(32, 64), nn.Linear(64, 32), function

    def forward(self, x):
        return self.down(self.function(self.up(x)))


def exact_gelu(x):
    return nn.functional.gelu(x)


def tanh_gelu(x):
    return nn.functional.gelu(x, approximate="tanh")


def turned(x):
    return x.transpose(1, 2).reshape(x.shape)


def softmax(x):
    return x.softmax(-1)


def summed(x):
    return x + x.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("function", "dtype", "scaling"),
    [
        (exact_gelu, torch.float16, PER_TOKEN),
        (exact_gelu, torch.float32, "w4a4-dynamic"),
        (tanh_gelu, torch.float32, PER_TOKEN),
        (nn.functional.silu, torch.float16, "w4a4-dynamic"),
        (nn.functional.relu6, torch.float32, PER_TOKEN),
        (turned, torch.float16, PER_TOKEN),
    ],
)
def test_the_scale_has_a_copy_of_its_own_with_the_same_bits(tmp_path, function, dtype, scaling):
    model, feeds = activation_between(function, dtype, scaling)(tmp_path)
    run = apply(MaximumApart, model, feeds)
    assert run.changes == 1  # and not of the first linear, which reads the input
    assert_same_bits(run)
    (down,) = [node for node in model.graph if is_ours(node) and "down" in node.name and "Scale" in node.op_type]
    (quantizer,) = [node for node in model.graph if is_ours(node, {"Quantize"}) and "down" in node.name]
    assert down.inputs[0] not in above(quantizer.inputs[0], stop=down)


def above(value, stop):
    """Return what a value is computed from, itself included, without what a node computes."""
    node = value.producer()
    if node is None or node is stop:
        return {value}
    return {value}.union(*(above(each, stop) for each in node.inputs if each is not None))


@pytest.mark.parametrize("function", [softmax, summed])
def test_a_reduction_between_the_two_is_not_computed_twice(tmp_path, function):
    model, _ = activation_between(function)(tmp_path)
    assert_leaves_alone(MaximumApart, model)


def test_what_is_read_elsewhere_too_is_not_computed_twice(tmp_path):
    model, _ = activation_between(exact_gelu)(tmp_path)
    (gelu,) = [node for node in model.graph if node.op_type in {"Gelu", "Erf"}]
    value = gelu.inputs[0]
    other = ir.node("Neg", [value], name="elsewhere")
    other.outputs[0].name, other.outputs[0].type, other.outputs[0].shape = "elsewhere", value.type, value.shape
    model.graph.append(other)
    model.graph.outputs.append(other.outputs[0])
    assert_leaves_alone(MaximumApart, model)


def test_numbers_of_every_size(tmp_path):
    model, _ = activation_between(exact_gelu)(tmp_path)
    x = np.array([0.0, -0.0, 1e-38, -1e-38, 1e30, -1e30, 1.0, -1.0], np.float32)
    run = apply(MaximumApart, model, {"x": np.tile(x, (2, 5, 4))})
    assert_same_bits(run)


def test_in_an_encoder_the_attention_and_the_activation_are_parted(portable):
    exported = portable("encoder")
    run = apply(MaximumApart, prefix(TensorRTQuantizers, exported.path), exported.feeds)
    assert run.changes > 0
    assert_same_bits(run)


def test_constant_scales_have_no_maximum(portable):
    assert_leaves_alone(MaximumApart, prefix(TensorRTQuantizers, portable("heads", "w4a4-static").path))
