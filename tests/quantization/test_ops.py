import pytest
import torch

from nvfp4_trt.format import TWO_LEVEL_MAX
from nvfp4_trt.quantization import ops

RULES = ("spec", "torchao", "modelopt", "compressed-tensors")


def samples(dtype=torch.float32):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 64, dtype=dtype)
    per_token = ops.per_token_scale(x)
    packed, block_scale = ops.quantize(x, per_token)
    return {
        "per_tensor_scale": [(x,), (x, "modelopt")],
        "per_token_scale": [(x,), (x[0, 0],)],
        "quantize": [(x, per_token), (x, per_token.amax()), (x, None), (x, per_token, "torchao")],
        "dequantize": [(packed, block_scale, s, dtype) for s in (per_token, per_token.amax(), None)],
        "fake_quantize": [(x, per_token), (x, per_token.amax()), (x, None), (x.transpose(0, 1), None)],
    }


CASES = [(name, index) for name, cases in samples().items() for index in range(len(cases))]


@pytest.mark.parametrize(("name", "index"), CASES)
def test_opcheck(name, index):
    """Schemas, fake kernels, autograd registration and dynamic shapes, as torch itself checks them."""
    # torch's check that no argument is changed cannot compare arguments that are float8: the next test does.
    checks = ["test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]
    checks += ["test_schema"] if name != "dequantize" else []
    torch.library.opcheck(getattr(ops, name), samples()[name][index], test_utils=checks)


def test_dequantize_changes_none_of_its_arguments():
    arguments = samples()["dequantize"][0][:3]
    before = [argument.float() for argument in arguments]
    ops.dequantize(*arguments, torch.float32)
    assert all(torch.equal(a.float(), b) for a, b in zip(arguments, before, strict=True))


def test_opcheck_with_gradients():
    x = torch.randn(2, 32, requires_grad=True)
    torch.library.opcheck(ops.fake_quantize, (x, ops.per_tensor_scale(x.detach())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_fake_result_has_the_real_ones_shape_dtype_and_strides(name, index, dtype):
    arguments = samples(dtype)[name][index]
    real = getattr(ops, name)(*arguments)
    with torch._subclasses.FakeTensorMode() as mode:
        faked = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments]
        fake = getattr(ops, name)(*faked)
    for a, b in zip(*((r,) if isinstance(r, torch.Tensor) else r for r in (real, fake)), strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_fake_quantize_is_quantize_then_dequantize(dtype, rule):
    x = torch.randn(7, 48).to(dtype)
    scale = ops.per_token_scale(x, rule)
    expected = ops.dequantize(*ops.quantize(x, scale, rule), scale, dtype)
    assert torch.equal(ops.fake_quantize(x, scale, rule), expected)


def test_no_result_is_its_argument():
    """A custom operator may not return what it was given: torch.compile would take the two for different."""
    x = torch.zeros(1, 32)
    assert ops.fake_quantize(x, None).data_ptr() != x.data_ptr()
    one = torch.ones(1, 32)
    assert ops.per_token_scale(one).data_ptr() != one.data_ptr()


@pytest.mark.parametrize("mode", ["per-tensor", "per-token", "none"])
def test_gradients_pass_straight_through_where_nothing_saturates(mode):
    x = torch.randn(4, 64, requires_grad=True)
    scale = {
        "per-tensor": ops.per_tensor_scale(x.detach()),
        "per-token": ops.per_token_scale(x.detach()),
        "none": None,
    }[mode]
    upstream = torch.randn(4, 64)
    ops.fake_quantize(x, scale).backward(upstream)
    assert torch.equal(x.grad, upstream)


def test_saturated_elements_get_no_gradient():
    scale = torch.tensor(0.5)
    limit = TWO_LEVEL_MAX * 0.5
    x = torch.zeros(1, 32)
    x[0, :6] = torch.tensor([limit * 2, -limit * 2, limit, -limit, 1.0, float("inf")])
    x.requires_grad_()
    ops.fake_quantize(x, scale).sum().backward()
    expected = torch.ones(1, 32)
    expected[0, [0, 1, 5]] = 0
    assert torch.equal(x.grad, expected)


def test_saturation_is_judged_row_by_row():
    x = torch.full((2, 32), 100.0, requires_grad=True)
    scale = torch.tensor([[100.0 / TWO_LEVEL_MAX], [1.0 / TWO_LEVEL_MAX]])
    ops.fake_quantize(x, scale).sum().backward()
    assert x.grad[0].eq(1).all()
    assert x.grad[1].eq(0).all()


def test_the_gradient_has_the_inputs_dtype():
    x = torch.randn(2, 32, dtype=torch.bfloat16, requires_grad=True)
    ops.fake_quantize(x, None).sum().backward()
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_rows_values_do_not_depend_on_the_batch(dtype):
    torch.manual_seed(1)
    row = torch.randn(1, 96).to(dtype)
    others = [torch.randn(3, 96) * 1e3, torch.zeros(2, 96), torch.full((1, 96), float("nan"))]
    alone = ops.fake_quantize(row, ops.per_token_scale(row))
    for other in others:
        batch = torch.cat([other.to(dtype), row])
        among = ops.fake_quantize(batch, ops.per_token_scale(batch))[-1:]
        assert torch.equal(among, alone)
    large = torch.cat([row, others[0].to(dtype)])
    per_tensor = ops.fake_quantize(large, ops.per_tensor_scale(large))[:1]
    assert not torch.equal(per_tensor, alone)  # which is what a scale for each row is for


def test_nan_spoils_its_own_block_only():
    x = torch.randn(2, 64)
    x[0, 20] = float("nan")
    nan = ops.fake_quantize(x, ops.per_token_scale(x)).isnan()
    assert nan[0, 16:32].all()
    assert int(nan.sum()) == 16
