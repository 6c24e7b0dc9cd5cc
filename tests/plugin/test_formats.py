import pytest

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.fields import GemmFields, QuantizeFields
from nvfp4_trt.plugin.formats import output_dtypes, supported

QUANTIZE = QuantizeFields("static", "silu_mul", emit_values=1)
ALL = ["f16", "f16", "f32", "i8", "i8", "f32", "f16"]


def test_every_position_of_the_only_combination():
    for end in range(1, len(ALL) + 1):
        assert supported(QUANTIZE, ALL[:end], [True] * end)
        assert not supported(QUANTIZE, ALL[:end], [True] * (end - 1) + [False])
        assert not supported(QUANTIZE, [*ALL[: end - 1], "INT32"], [True] * end)
    assert not supported(QUANTIZE, [*ALL, "f16"], [True] * 8)
    assert not supported(QUANTIZE, [], [])


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_the_first_input_sets_the_others(dtype):
    assert supported(QUANTIZE, [dtype], [True])
    assert supported(QUANTIZE, [dtype, dtype], [True, True])
    assert all(
        supported(QUANTIZE, [dtype, other], [True, True]) == (other == dtype) for other in ("f16", "bf16", "f32")
    )


def test_codes_are_never_the_first_input_of_a_quantizer():
    assert not supported(QUANTIZE, ["i8"], [True])


def test_a_gemms_dtypes_do_not_depend_on_its_first_input():
    fields = GemmFields(16, has_bias=1)
    dtypes = ["i8", "i8", "f32", "i8", "i8", "f32", "bf16", "bf16"]
    assert all(supported(fields, dtypes[:end], [True] * end) for end in range(1, 9))
    assert not supported(fields, [*dtypes[:7], "f16"], [True] * 8)
    assert output_dtypes(fields, dtypes[:7]) == ["bf16"]


def test_dtypes_of_outputs():
    assert output_dtypes(QUANTIZE, ["bf16", "bf16", "f32"]) == ["i8", "i8", "f32", "bf16"]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (["f16", "f16"], "2 inputs, and by its attributes 3"),
        (["i8", "i8", "f32"], "input x is i8"),
        (["f16", "f32", "f32"], "input other is f32"),
        (["f16", "f16", "f16"], "input scale is f16"),
    ],
)
def test_inputs_of_a_wrong_dtype(inputs, told):
    with pytest.raises(PluginNodeError, match=told):
        output_dtypes(QUANTIZE, inputs)
