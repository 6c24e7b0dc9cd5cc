import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.building.profiles import HEADROOM, Range, make_profile, parse_ranges
from nvfp4_trt.errors import InputSpecError, ProfileError


def value(name, *dims):
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.FLOAT))


def test_syntax():
    assert parse_ranges(["batch=1:8:32", "sequence=128"]) == {
        "batch": Range(1, 8, 32),
        "sequence": Range(128, 128, 128),
    }


@pytest.mark.parametrize(
    "spec",
    ["", "batch", "batch=", "=1:2:3", "batch=1:2", "batch=a:b:c", "batch=1:2:3:4", "batch=-1:2:3", "batch=1.5"],
)
def test_anything_else_is_a_syntax_error(spec):
    with pytest.raises(InputSpecError) as caught:
        parse_ranges([spec])
    assert repr(spec) in caught.value.message


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_ranges_ascend_from_1(low, best, most):
    spec = f"d={low}:{best}:{most}"
    if 1 <= low <= best <= most:
        assert parse_ranges([spec]) == {"d": Range(low, best, most)}
    else:
        with pytest.raises(ProfileError, match="ascending"):
            parse_ranges([spec])


@pytest.mark.parametrize("extent", [2**31, 10**20])
def test_what_no_dimension_can_be_is_refused(extent):
    with pytest.raises(ProfileError, match="more than a dimension can be"):
        parse_ranges([f"d=1:{extent}:{extent}"])
    assert parse_ranges([f"d={2**31 - 1}"])["d"].max == 2**31 - 1


def test_default_is_from_1_over_the_example_to_its_multiple():
    profile = make_profile([value("x", "batch", 64)], {}, {"x": [3, 64]})
    assert profile == {"x": ((1, 64), (3, 64), (3 * HEADROOM, 64))}


def test_one_range_serves_every_input_that_has_the_dimension():
    inputs = [value("ids", "batch", "sequence"), value("mask", "batch", 1, "sequence")]
    profile = make_profile(inputs, {"batch": Range(2, 4, 8)}, {"ids": [3, 5], "mask": [3, 1, 5]})
    assert profile["ids"] == ((2, 1), (4, 5), (8, 20))
    assert profile["mask"] == ((2, 1, 1), (4, 1, 5), (8, 1, 20))


def test_a_model_without_dynamic_dimensions_has_no_profile():
    assert make_profile([value("x", 2, 64), value("step")], {}, {"x": [2, 64]}) == {}


def test_a_range_for_an_unknown_dimension_names_the_known_ones():
    with pytest.raises(ProfileError) as caught:
        make_profile([value("x", "batch", 64)], {"sequence": Range(1, 1, 1)}, {"x": [3, 64]})
    assert "sequence" in caught.value.message
    assert "batch" in caught.value.hint


def test_a_range_for_a_fixed_model_says_how_to_get_dynamic_ones():
    with pytest.raises(ProfileError) as caught:
        make_profile([value("x", 3, 64)], {"batch": Range(1, 1, 1)}, {"x": [3, 64]})
    assert "--dynamic" in caught.value.hint
