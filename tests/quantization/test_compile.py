"""The quantized modules under torch.compile and torch.export: one graph, any batch."""

import pytest
import torch
from torch import nn

from nvfp4_trt import quantize
from nvfp4_trt.recipe import RECIPES

DYNAMIC = ["w4a4-dynamic", "w4a4-dynamic-token", "w4a4-single-level", "w4a16"]


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 32)).eval()


def quantized(recipe):
    batches = [{"input": torch.randn(8, 64)}] if recipe == "w4a4-static" else None
    return quantize(mlp(), recipe, inputs=batches).module


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_one_graph_for_two_batch_sizes(recipe):
    module = quantized(recipe)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for rows in (4, 9):
            x = torch.randn(rows, 64)
            assert torch.equal(compiled(x), module(x))


@pytest.mark.long
def test_inductor():
    module = quantized("w4a4-dynamic")
    x = torch.randn(5, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x))


def test_training_through_a_compiled_layer_gives_the_eager_gradients():
    module = quantized("w4a4-dynamic-token")
    gradients = []
    for run in (module, torch.compile(module, backend="aot_eager", fullgraph=True)):
        x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        run(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize("recipe", DYNAMIC)
def test_torch_export_with_a_dynamic_batch(recipe):
    module = quantized(recipe)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (torch.randn(4, 64),), dynamic_shapes=({0: batch},))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert set(called) == {"nvfp4.linear.default", "aten.gelu.default"}  # one operator for each layer
    x = torch.randn(11, 64)
    assert torch.equal(program.module()(x), module(x))
