import numpy as np
import pytest

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.fields import GemmFields, QuantizeFields
from nvfp4_trt.plugin.shapes import (
    Integers,
    check_gemm,
    check_quantize,
    gemm_shapes,
    quantize_shapes,
    rows_of,
    scale_bytes,
    tensor_dtypes,
)
from nvfp4_trt.portable import swizzle_bytes

NUMBERS = Integers()


@pytest.mark.parametrize(("m", "k"), [(1, 16), (128, 64), (129, 80), (300, 4096), (7, 1040)])
def test_bytes_of_swizzled_scales(m, k):
    assert scale_bytes(NUMBERS, m, k) == swizzle_bytes(np.zeros((m, k // 16), np.uint8)).size


def test_shapes_of_a_quantizer():
    fields = QuantizeFields("token", "rms_norm", has_residual=1, emit_values=1, emit_sum=1)
    assert quantize_shapes(NUMBERS, fields, [2, 3, 64]) == [[2, 3, 32], [512], [2, 3, 1], [2, 3, 64], [2, 3, 64]]
    assert quantize_shapes(NUMBERS, QuantizeFields("tensor"), [300, 80]) == [[300, 40], [3 * 2 * 512], [1]]
    assert quantize_shapes(NUMBERS, QuantizeFields("token"), [32]) == [[16], [512], [1]]


def test_shapes_of_a_gemm():
    assert gemm_shapes([2, 3, 32], [24, 32]) == [[2, 3, 24]]
    assert rows_of(NUMBERS, [2, 3, 32]) == 6


def test_dtypes():
    quantize = tensor_dtypes(QuantizeFields("static", "silu_mul", emit_values=1), "bf16")
    assert quantize == {
        "x": "bf16",
        "other": "bf16",
        "scale": "f32",
        "codes": "i8",
        "scales": "i8",
        "alpha": "f32",
        "values": "bf16",
    }
    gemm = tensor_dtypes(GemmFields(10, has_bias=1), "i8")
    assert [gemm[name] for name in ("a", "a_scales", "alpha", "b", "b_scales", "beta")] == [
        *("i8", "i8", "f32"),
        *("i8", "i8", "f32"),
    ]
    assert gemm["bias"] == gemm["out"] == "f16"


def test_a_quantizers_rows_and_columns():
    fields = QuantizeFields("static", "layer_norm", 0.0, 1, 1, 1)
    assert check_quantize(fields, [(2, 5, 48), (2, 5, 48), (48,), (48,), (1,)]) == (10, 48)
    assert check_quantize(QuantizeFields("single"), [(48,)]) == (1, 48)


@pytest.mark.parametrize(
    ("fields", "inputs", "told"),
    [
        (QuantizeFields("token"), [], "0 inputs, and by its attributes 1"),
        (QuantizeFields("token"), [(4, 40)], r"x has the shape \[4, 40\]"),
        (QuantizeFields("token"), [(4, 0)], "x has the shape"),
        (QuantizeFields("token"), [()], "x has the shape"),
        (QuantizeFields("token", "silu_mul"), [(4, 32), (1, 32)], "other has the shape"),
        (QuantizeFields("token", "rms_norm", has_weight=1), [(4, 32), (4, 32)], "weight has the shape"),
        (QuantizeFields("static"), [(4, 32), (4, 1)], "scale has the shape"),
    ],
)
def test_inputs_that_a_quantizer_refuses(fields, inputs, told):
    with pytest.raises(PluginNodeError, match=told):
        check_quantize(fields, inputs)


GOOD = {
    "a": (2, 5, 48),
    "a_scales": (1024,),
    "alpha": (2, 5, 1),
    "b": (24, 48),
    "b_scales": (1024,),
    "beta": (24,),
}


def test_a_gemms_sizes():
    assert check_gemm(GemmFields(1), list(GOOD.values())) == (10, 24, 96)
    inputs = list({**GOOD, "alpha": (1,), "beta": (1,), "bias": (24,)}.values())
    assert check_gemm(GemmFields(1, has_bias=1), inputs) == (10, 24, 96)


@pytest.mark.parametrize(
    "change",
    [
        {"a": (2, 5, 40)},
        {"a": ()},
        {"a_scales": (512,)},
        {"alpha": (2,)},
        {"b": (20, 48)},
        {"b": (0, 48)},
        {"b": (24, 40)},
        {"b": (24, 2, 24)},
        {"b_scales": (24, 6)},
        {"beta": (8,)},
        {"bias": (1,)},
    ],
    ids=str,
)
def test_inputs_that_a_gemm_refuses(change):
    inputs = {**GOOD, "bias": (24,), **change}
    (name,) = change
    with pytest.raises(PluginNodeError, match=f"{name} has the shape"):
        check_gemm(GemmFields(1, has_bias=1), list(inputs.values()))


def test_a_gemm_with_an_input_too_many():
    with pytest.raises(PluginNodeError, match="7 inputs, and by its attributes 6"):
        check_gemm(GemmFields(1), [*GOOD.values(), (24,)])
