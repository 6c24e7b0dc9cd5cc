"""Training a prepared model: its gradients, and everything that a training loop does around it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import make
from torch import nn
from torch.utils.checkpoint import checkpoint

import nvfp4_trt
from nvfp4_trt import format as fmt
from nvfp4_trt.recipe import RECIPES

REACH = 2688 * 1.125


def rounded(x, scale):
    return fmt.dequantize(*fmt.quantize(x, scale), scale)


class StraightThrough(torch.autograd.Function):
    """Forward the rounded values, backward the gradient, but where `clipped` and the scale saturates."""

    @staticmethod
    def forward(ctx, x, scale, clipped):
        reach = REACH * (1 if scale is None else scale)
        ctx.passes = x.abs() <= reach if clipped else torch.ones_like(x, dtype=torch.bool)
        return rounded(x, scale)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.passes, None, None


def scale_of(recipe, x, amax):
    if recipe == "w4a4-dynamic":
        return fmt.per_tensor_scale(x)
    if recipe == "w4a4-dynamic-token":
        return fmt.per_token_scale(x)
    return fmt.scale_from_amax(torch.tensor(amax))[0] if recipe == "w4a4-static" else None


@pytest.mark.parametrize("recipe", list(RECIPES))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), size=st.floats(-6, 12), amax=st.floats(0.01, 100.0))
def test_gradients_are_those_of_the_values_that_were_rounded(recipe, seed, size, amax):
    """Loss and gradients, bit for bit, against straight-through written out."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(32, 24)
    x = (torch.randn(5, 32, generator=generator) * 2.0**size).requires_grad_()
    nvfp4_trt.prepare_qat(layer, recipe, amaxes={"": amax})
    toward = torch.randn(5, 24, generator=generator)

    weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    scale = scale_of(recipe, x.detach(), amax)
    entering = x
    if recipe != "w4a16":
        entering = StraightThrough.apply(x, scale, recipe in {"w4a4-static", "w4a4-single-level"})
    own = fmt.per_tensor_scale(weight.detach())
    expected_out = nn.functional.linear(entering, StraightThrough.apply(weight, own, False), bias)
    expected = torch.autograd.grad((expected_out * toward).sum(), (x, weight, bias))
    out = layer(x)
    found = torch.autograd.grad((out * toward).sum(), (x, layer.weight, layer.bias))
    assert torch.equal(out, expected_out)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_gradient_stops_where_a_static_scale_saturates_and_only_there():
    layer = nvfp4_trt.prepare_qat(nn.Linear(32, 2), "w4a4-static", amaxes={"": 1.0})
    quantizer = layer.fake_quantized.input_quantizer
    x = torch.linspace(-3, 3, 64).reshape(2, 32).requires_grad_()
    quantizer(x).sum().backward()
    assert torch.equal(x.grad, (x.detach().abs() <= 1.125).float())
    # At the edge, saturating errs by an eighth: no more than rounding 5 to 4 does within the range.
    edge = torch.full((1, 32), 1.125)
    assert torch.allclose(quantizer(edge), torch.ones(1, 32))


@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a4-static", "w4a16"])
def test_descent_reaches_a_lower_loss(recipe):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    x, target = torch.randn(64, 32), torch.randn(64, 16)
    nvfp4_trt.prepare_qat(model, recipe, inputs=[{"input": x}])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    model, batch, _ = make("llama")
    nvfp4_trt.prepare_qat(model, "w4a4-dynamic-token")
    with torch.autocast("cpu", dtype=dtype):
        out = model(**batch)
        out.float().square().mean().backward()
        with torch.no_grad():
            assert torch.equal(nvfp4_trt.convert_qat(model)(**batch), model(**batch))
    assert all(p.grad.dtype == torch.float32 and p.grad.abs().sum() > 0 for p in model.parameters())


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for run in (lambda model, x: model(x), lambda model, x: checkpoint(model, x, use_reentrant=False)):
        model, batch, _ = make("llama")
        nvfp4_trt.prepare_qat(model, "w4a4-static", inputs=[batch])
        run(model, batch["x"]).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("name", "recipe"), [("mlp", "w4a4-dynamic"), ("gpt2", "w4a4-dynamic-token"), ("encoder", "w4a4-static")]
)
def test_one_graph_under_torch_compile_with_the_eager_gradients(name, recipe):
    torch._dynamo.reset()
    gradients = []
    for compiled in (False, True):
        model, batch, _ = make(name)
        nvfp4_trt.prepare_qat(model, recipe, inputs=[batch])
        run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        run(**batch).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[1])


@pytest.mark.long
def test_training_under_inductor_and_autocast():
    torch._dynamo.reset()
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 32))
        nvfp4_trt.prepare_qat(model)
        run = torch.compile(model, fullgraph=True) if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(8, 64)
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = run(x).float().square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_distributed_data_parallel(tmp_path):
    model, batch, _ = make("mlp")
    nvfp4_trt.prepare_qat(model, "w4a4-static", inputs=[batch])
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        wrapped(**batch).square().mean().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(nvfp4_trt.Nvfp4Error, match="DistributedDataParallel is not prepared"):
        nvfp4_trt.convert_qat(wrapped)
    nvfp4_trt.convert_qat(model)


def test_a_model_prepared_in_inference_mode_can_be_trained():
    model, batch, _ = make("mlp")
    with torch.inference_mode():
        nvfp4_trt.prepare_qat(model, "w4a4-static", inputs=[batch])
    model(**batch).sum().backward()
    with torch.inference_mode():
        assert torch.equal(nvfp4_trt.convert_qat(model)(**batch), model.eval()(**batch))


def test_weights_that_are_frozen_stay():
    model, batch, _ = make("mlp")
    model.fc1.weight.requires_grad_(False)
    nvfp4_trt.prepare_qat(model)
    model(**batch).sum().backward()
    assert model.fc1.weight.grad is None
    assert model.fc1.bias.grad is not None
