import numpy as np
import pytest
from both_sides import CASES, around, assert_leaves_alone, assert_same_bits, prefix

from nvfp4_trt.passes import SingleLevel
from nvfp4_trt.portable import is_ours

SINGLE = [("heads", "w4a4-single-level", "float32"), ("heads", "w4a4-single-level", "float16")]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(SingleLevel, portable(*case)))


@pytest.mark.parametrize("case", SINGLE, ids="-".join)
def test_every_operator_gets_the_constant_scale_1(portable, case):
    run = around(SingleLevel, portable(*case))
    assert run.changes > 0
    assert not [n for n in run.model.graph if is_ours(n, {"QuantizeSingleLevel", "DequantizeSingleLevel"})]
    quantizers = [n for n in run.model.graph if is_ours(n, {"Quantize"})]
    assert quantizers
    for node in quantizers:
        scale = node.inputs[1].const_value.numpy()
        assert scale.dtype == np.float32
        assert scale == 1.0


@pytest.mark.parametrize("recipe", ["w4a4-dynamic", "w4a4-dynamic-token", "w4a4-static", "w4a16"])
def test_two_level_recipes_are_left(portable, recipe):
    assert_leaves_alone(SingleLevel, prefix(SingleLevel, portable("heads", recipe).path))
