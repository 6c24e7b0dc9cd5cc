"""`nvfp4_trt.ops` on a CPU; on a GPU the same is checked by `tests.kernel_checks`."""

import pytest
import torch
from torch.nn import functional as F

from nvfp4_trt import format as fmt
from nvfp4_trt import ops
from nvfp4_trt.errors import FeatureUnsupportedError
from nvfp4_trt.ops import Nvfp4Tensor
from nvfp4_trt.quantization import cuda

EVERY_SCALING = pytest.mark.parametrize("scaling", ["tensor", "token", "static", "single"])
STATIC = torch.tensor(0.01)


def a_matrix(rows=5, k=96, dtype=torch.bfloat16):
    return torch.randn(rows, k, generator=torch.Generator().manual_seed(rows + k)).to(dtype)


def quantized(x, scaling, **options):
    return ops.quantize(x, scaling, STATIC if scaling == "static" else None, **options)


@EVERY_SCALING
@pytest.mark.parametrize("tiled", [False, True])
def test_quantize_is_the_formats(scaling, tiled):
    x = a_matrix(133)
    scale = {
        "tensor": fmt.per_tensor_scale(x),
        "token": fmt.per_token_scale(x),
        "static": STATIC,
        "single": None,
    }[scaling]
    codes, blocks = fmt.quantize(x, scale)
    found = quantized(x, scaling, tiled=tiled)
    assert torch.equal(found.packed, codes)
    wanted = fmt.swizzle_scales(blocks).reshape(-1) if tiled else blocks
    assert torch.equal(found.block_scale.view(torch.uint8), wanted.view(torch.uint8))
    assert torch.equal(found.scale, torch.ones(()) if scale is None else scale)
    assert torch.equal(ops.dequantize(found, x.dtype), fmt.dequantize(codes, blocks, scale, x.dtype))


@EVERY_SCALING
def test_fake_quantize_is_both(scaling):
    x = a_matrix()
    fake = torch.ops.nvfp4.fake_quantize_scaled(x, scaling, STATIC if scaling == "static" else None)
    assert torch.equal(fake, ops.dequantize(quantized(x, scaling), x.dtype))


@pytest.mark.parametrize("scaling", ["tensor", "static"])
def test_gradients_pass_where_nothing_saturates(scaling):
    x = a_matrix(dtype=torch.float32).mul(100).requires_grad_()
    scale = torch.tensor(0.01) if scaling == "static" else None
    torch.ops.nvfp4.fake_quantize_scaled(x, scaling, scale).sum().backward()
    within = x.abs() <= 0.01 * fmt.TWO_LEVEL_MAX * 1.125
    assert torch.equal(x.grad, within.float() if scaling == "static" else torch.ones_like(x))
    assert within.any()
    assert not within.all()


def test_gemm_is_that_of_the_values():
    a, b = ops.quantize(a_matrix(7), "token", tiled=True), ops.quantize(a_matrix(24), "tensor", tiled=True)
    bias = torch.randn(24)
    expected = F.linear(ops.dequantize(a), ops.dequantize(b), bias)
    assert torch.equal(ops.gemm(a, b, bias, torch.float32), expected)
    assert ops.gemm(a, b).dtype is torch.bfloat16


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
def test_norm_and_quantize(function, residual):
    x, other, weight = a_matrix(), a_matrix(6)[:5], a_matrix(1)[0]
    bias = weight.flip(0) if function == "layer_norm" else None
    given = other if residual else None
    *codes, values, total = ops.norm_quantize(x, function, weight, bias, 1e-5, given, "token", None, True, True)
    summed = x + other if residual else x
    norm = F.layer_norm if function == "layer_norm" else F.rms_norm
    more = (weight.float(), bias.float()) if bias is not None else (weight.float(),)
    expected = norm(summed.float(), (x.shape[-1],), *more, eps=1e-5).to(x.dtype)
    assert torch.equal(values, expected)
    assert torch.equal(total, summed if residual else x.new_empty(0))
    again = ops.quantize(expected, "token", tiled=True)
    assert all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(codes, again[:3], strict=True)
    )
    assert ops.norm_quantize(x, function, weight, bias, 1e-5)[3].numel() == 0


@pytest.mark.parametrize("function", ["gelu", "gelu_tanh", "silu", "silu_mul", "relu"])
def test_activation_and_quantize(function):
    x, other = a_matrix(), a_matrix(6)[:5]
    expected = {
        "gelu": F.gelu,
        "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
        "silu": F.silu,
        "silu_mul": lambda v: F.silu(v) * other.float(),
        "relu": F.relu,
    }[function](x.float()).to(x.dtype)
    found = ops.activation_quantize(x, function, other if function == "silu_mul" else None, keep=True)
    assert torch.equal(found[0], ops.quantize(expected, "token").packed)
    assert torch.equal(found[3], expected)


def test_the_operators_stay_whole_in_a_compiled_graph():
    def block(x, weight):
        packed, scales, scale, _, total = ops.norm_quantize(x, "rms_norm", weight, None, 1e-5, x)
        values = ops.dequantize(Nvfp4Tensor(packed, scales, scale, tiled=False), x.dtype)
        again = ops.activation_quantize(values, "silu", None, "tensor")
        return torch.ops.nvfp4.fake_quantize_scaled(total, "token"), again[0]

    x, weight = a_matrix(), a_matrix(1)[0]
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(x, weight), block(x, weight), strict=True):
        assert torch.equal(a, b)


def test_shapes_under_fake_tensors_are_the_real_ones():
    x = a_matrix(130)
    for tiled in (False, True):
        for scaling in ("tensor", "token"):
            torch.library.opcheck(torch.ops.nvfp4.quantize_scaled.default, (x, scaling, None, "spec", tiled))
    torch.library.opcheck(torch.ops.nvfp4.norm_quantize.default, (x, "rms_norm", None, None, 1e-5))
    torch.library.opcheck(torch.ops.nvfp4.activation_quantize.default, (x, "gelu"))


def test_the_kernels_are_refused_where_there_are_none():
    x = a_matrix()
    with pytest.raises(FeatureUnsupportedError, match="bfloat16 on cpu"):
        ops.quantize(x, backend="cuda")
    with pytest.raises(FeatureUnsupportedError, match="on cpu"):
        ops.dequantize(ops.quantize(x), backend="cuda")
    with pytest.raises(FeatureUnsupportedError, match="tiled: False and False"):
        ops.gemm(ops.quantize(x), ops.quantize(x), backend="cuda")


@pytest.mark.parametrize(("scaling", "scale"), [("static", None), ("single", STATIC), ("row", None)])
def test_a_scale_goes_with_static_alone(scaling, scale):
    with pytest.raises(ValueError, match="scaling"):
        ops.quantize(a_matrix(), scaling, scale)


def test_unknown_functions():
    with pytest.raises(ValueError, match="neither layer_norm nor rms_norm"):
        ops.norm_quantize(a_matrix(), "batch_norm", None, None, 1e-5)
    with pytest.raises(ValueError, match="lacks its second factor"):
        ops.activation_quantize(a_matrix(), "silu_mul")


MATRIX = torch.zeros(2, 32)


@pytest.mark.parametrize(
    ("scaling", "scale", "given", "message"),
    [
        ("static", None, {}, "scaling 'static'"),
        ("single", STATIC, {}, "scaling 'single'"),
        ("row", None, {}, "scaling 'row'"),
        ("static", STATIC.double(), {}, "one fp32 number"),
        ("static", torch.ones(2), {}, "one fp32 number"),
        ("token", None, {"weight": torch.zeros(32, dtype=torch.bfloat16)}, "the weight must be torch.float32"),
        ("token", None, {"bias": torch.zeros(16)}, r"the bias must be torch.float32 \[32\]"),
        ("token", None, {"other": torch.zeros(32)}, "the residual or second factor must be"),
    ],
)
def test_what_a_kernel_would_read_wrongly_is_refused_before(scaling, scale, given, message):
    with pytest.raises(ValueError, match=message):
        cuda._check_given(MATRIX, scaling, scale, given)


def test_what_fits_passes():
    given = {"other": torch.zeros(2, 32), "weight": torch.zeros(32), "bias": torch.zeros(32)}
    cuda._check_given(MATRIX, "static", STATIC, given)
    cuda._check_given(MATRIX, "token", None, {})
