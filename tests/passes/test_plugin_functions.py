"""The plugin operators' bodies on ONNX Runtime against the codec: every scale byte, tiles, odd shapes."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from nvfp4_trt import format as fmt
from nvfp4_trt.passes.plugin_functions import gemm_function, quantize_function, scale_table
from nvfp4_trt.passes.plugin_nodes import GEMM, PLUGIN_DOMAIN, QUANTIZE
from nvfp4_trt.portable import DOMAIN, OPSET, VERSION, portable_functions, swizzle_bytes, unswizzle_bytes

SCALINGS = ("token", "tensor", "static", "single")
SHAPES = ((32,), (5, 64), (2, 3, 96), (2, 65, 32), (1, 257, 128))
FLAGS = ("has_residual", "has_weight", "has_bias", "emit_values", "emit_sum")


def run(op, function, feeds, outputs, attributes):
    """Run one node on ONNX Runtime; `outputs` is name → (ONNX type, rank)."""
    node = helper.make_node(
        op, list(feeds), list(outputs), domain=PLUGIN_DOMAIN, overload=function.overload, **attributes
    )
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    ends = [helper.make_tensor_value_info(name, kind, [None] * rank) for name, (kind, rank) in outputs.items()]
    made = helper.make_model(
        helper.make_graph([node], "one", inputs, ends),
        functions=[function, *portable_functions().values()],
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(DOMAIN, VERSION),
            helper.make_opsetid(PLUGIN_DOMAIN, 1),
        ],
        ir_version=11,
    )
    onnx.checker.check_model(made, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def quantize(x, scaling, scale=None):
    attributes = {"scaling": scaling, "function": "none", **dict.fromkeys(FLAGS, 0)}
    function = quantize_function(attributes, helper.np_dtype_to_tensor_dtype(x.dtype), scaling)
    feeds = {"x": x} if scale is None else {"x": x, "scale": scale}
    ranks = {"codes": x.ndim, "scales": 1, "alpha": x.ndim if scaling == "token" else 1}
    kinds = {name: TensorProto.FLOAT if name == "alpha" else TensorProto.INT8 for name in ranks}
    return run(QUANTIZE, function, feeds, {name: (kinds[name], rank) for name, rank in ranks.items()}, attributes)


def codec(x, scaling, scale):
    """Return packed codes, block scales' bytes and the scale by the torch codec."""
    tensor = torch.from_numpy(x)
    if scaling == "token":
        level = fmt.per_token_scale(tensor)
    elif scaling == "tensor":
        level = fmt.per_tensor_scale(tensor)
    else:
        level = torch.tensor(1.0 if scaling == "single" else float(scale[0]))
    packed, block_scale = fmt.quantize(tensor, level)[:2]
    return packed.numpy(), block_scale.view(torch.uint8).numpy(), level.numpy()


def draw(shape, dtype=np.float32, size=3.0):
    return np.random.default_rng(sum(shape)).normal(0, size, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantize_is_the_codec_bit_for_bit(shape, scaling, dtype):
    x = draw(shape, dtype)
    scale = np.array([0.003], np.float32) if scaling == "static" else None
    codes, tiles, alpha = quantize(x, scaling, scale)
    packed, steps, level = codec(x, scaling, scale)
    assert codes.view(np.uint8).tobytes() == packed.tobytes()
    rows = int(np.prod(shape[:-1]))
    assert tiles.view(np.uint8).tobytes() == swizzle_bytes(steps.reshape(rows, -1)).tobytes()
    assert alpha.shape == ((*shape[:-1], 1) if scaling == "token" else (1,))
    assert alpha.reshape(-1).tobytes() == level.reshape(-1).tobytes()


def test_every_scale_byte_comes_out():
    """Row i has the block scale i (all of 0 to 126, and 127 for NaN) with the single level."""
    wanted = np.arange(128, dtype=np.uint8)
    values = wanted.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    x = np.zeros((128, 32), np.float32)
    x[:, 0] = x[:, 16] = values * 6
    _, tiles, _ = quantize(x, "single")
    assert unswizzle_bytes(tiles.view(np.uint8), 128, 2)[:, 0].tolist() == wanted.tolist()


def test_nan_infinity_and_zero():
    x = draw((4, 64))
    x[0, 3], x[1, 20], x[2] = np.nan, np.inf, 0.0
    for scaling in ("token", "tensor"):
        codes, tiles, alpha = quantize(x, scaling)
        packed, steps, level = codec(x, scaling, None)
        assert codes.view(np.uint8).tobytes() == packed.tobytes()
        assert tiles.view(np.uint8).tobytes() == swizzle_bytes(steps).tobytes()
        assert alpha.reshape(-1).tobytes() == level.reshape(-1).tobytes()


def gemm_feeds(m, n, k, *, per_token, per_column, dtype):
    random = np.random.default_rng(m + n + k)
    steps = {name: random.integers(30, 70, (rows, k // 16), dtype=np.uint8) for name, rows in (("a", m), ("b", n))}
    codes = {name: random.integers(0, 256, (rows, k // 2), dtype=np.uint8) for name, rows in (("a", m), ("b", n))}
    feeds = {
        "a": codes["a"].view(np.int8),
        "a_scales": swizzle_bytes(steps["a"]).view(np.int8),
        "alpha": random.uniform(0.001, 0.01, (m, 1) if per_token else 1).astype(np.float32),
        "b": codes["b"].view(np.int8),
        "b_scales": swizzle_bytes(steps["b"]).view(np.int8),
        "beta": random.uniform(0.001, 0.01, n if per_column else 1).astype(np.float32),
        "bias": random.normal(0, 0.01, n).astype(dtype),
    }
    values = {}
    for name in ("a", "b"):
        nibbles = np.stack([codes[name] & 0xF, codes[name] >> 4], -1).reshape(len(codes[name]), k)
        scale = steps[name].view(ml_dtypes.float8_e4m3fn).astype(np.float64).repeat(16, axis=1)
        values[name] = nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float64) * scale
    exact = values["a"] @ values["b"].T * feeds["alpha"].reshape(-1, 1) * feeds["beta"]
    return feeds, exact


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 8, 32), (5, 40, 96), (130, 136, 64), (129, 264, 320)])
def test_gemm_is_the_product_in_fp64_rounded(m, n, k, has_bias, dtype):
    feeds, exact = gemm_feeds(m, n, k, per_token=m % 2 == 0, per_column=n > 8, dtype=dtype)
    bias = feeds["bias"] if has_bias else feeds.pop("bias") * 0
    exact = exact + bias.astype(np.float64)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    function = gemm_function("bias" if has_bias else "plain", has_bias=has_bias)
    (out,) = run(GEMM, function, feeds, {"out": (kind, 2)}, {"dtype": kind, "has_bias": int(has_bias)})
    assert out.shape == (m, n)
    assert out.dtype == dtype
    error = np.abs(out.astype(np.float64) - exact).max() / np.abs(exact).max()
    assert error < {np.float16: 2**-11, np.float32: 2**-20}[dtype]


def test_leading_dimensions_come_back():
    feeds, exact = gemm_feeds(6, 8, 32, per_token=True, per_column=False, dtype=np.float32)
    del feeds["bias"]
    feeds["a"], feeds["alpha"] = feeds["a"].reshape(2, 3, 16), feeds["alpha"].reshape(2, 3, 1)
    function = gemm_function("plain", has_bias=False)
    (out,) = run(GEMM, function, feeds, {"out": (TensorProto.FLOAT, 3)}, {"dtype": 1, "has_bias": 0})
    assert out.shape == (2, 3, 8)
    np.testing.assert_allclose(out.reshape(6, 8), exact, rtol=1e-5, atol=1e-7)


def test_the_scale_table_is_e4m3():
    table = scale_table()
    assert table.dtype == np.float32
    assert np.isnan(table[[127, 255]]).all()
    assert (table[126], table[1], table[8]) == (448.0, 2.0**-9, 2.0**-6)


def test_functions_hold_no_constant_in_vain():
    attributes = {"scaling": "token", "function": "silu", **dict.fromkeys(FLAGS, 0)}
    for function in (quantize_function(attributes, 1, "one"), gemm_function("plain", has_bias=False)):
        read = {name for node in function.node for name in node.input} | set(function.output)
        assert all(set(node.output) & read for node in function.node)
        assert len({node.name for node in function.node}) == len(function.node)
