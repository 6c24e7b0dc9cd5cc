"""Padding values, and arrays growing to a bucket and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.errors import BucketsInvalidError, InputSpecError
from nvfp4_trt.serving.manifest import Tensor
from nvfp4_trt.serving.padding import pad, pad_values, parse_pads, unmasked_dims, unpad

IDS = Tensor(name="input_ids", dtype="int64", shape=("batch", "sequence"), pad=7)
MASK = Tensor(name="attention_mask", dtype="int64", shape=("batch", "sequence"))
PIXELS = Tensor(name="pixels", dtype="float32", shape=("batch", 3, "side", "side"))


def test_values_are_parsed():
    assert parse_pads(["input_ids=1", "x=y=-65504"]) == {"input_ids": 1.0, "x=y": -65504.0}


@pytest.mark.parametrize("spec", ["input_ids", "input_ids=", "=1", "input_ids=one", "x=nan", "x=-inf"])
def test_values_that_are_none(spec):
    with pytest.raises(InputSpecError, match="is not NAME=NUMBER"):
        parse_pads([spec])


def test_zero_is_the_default():
    assert pad_values([IDS, MASK, PIXELS], {"input_ids": 2.0}) == {
        "input_ids": 2.0,
        "attention_mask": 0.0,
        "pixels": 0.0,
    }


@pytest.mark.parametrize(
    ("dtype", "value"), [("int64", 0.5), ("int8", 200), ("uint8", -1), ("bool", 2), ("int32", 2.0**31)]
)
def test_values_that_a_dtype_cannot_hold(dtype, value):
    with pytest.raises(BucketsInvalidError, match=f"{dtype} cannot hold it"):
        pad_values([IDS.model_copy(update={"dtype": dtype})], {"input_ids": value})


def test_a_value_for_no_input():
    with pytest.raises(BucketsInvalidError, match="has no such input"):
        pad_values([IDS], {"ids": 0.0})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_mask_of_floating_point_wants_a_value(dtype):
    mask = MASK.model_copy(update={"dtype": dtype})
    with pytest.raises(BucketsInvalidError, match="0 hides a token in a mask that is multiplied"):
        pad_values([mask], {})
    assert pad_values([mask], {"attention_mask": -65504.0}) == {"attention_mask": -65504.0}
    fixed = mask.model_copy(update={"shape": (1, 128)})
    assert pad_values([fixed], {}) == {"attention_mask": 0.0}, "it is never padded"


def test_dimensions_without_a_mask():
    dims = ("batch", "sequence")
    assert unmasked_dims([IDS, MASK], dims, "batch") == ()
    assert unmasked_dims([IDS], dims, "batch") == ("sequence",)
    assert unmasked_dims([IDS], dims, None) == ("batch", "sequence")


def test_along_the_batch_the_last_row_is_repeated():
    grown = pad(np.array([[1, 2], [3, 4]]), IDS, {"batch": 4, "sequence": 3}, "batch")
    assert grown.tolist() == [[1, 2, 7], [3, 4, 7], [3, 4, 7], [3, 4, 7]]
    assert grown.dtype == np.int64


def test_a_batch_of_no_name_is_padded_like_the_rest():
    grown = pad(np.array([[1, 2]]), IDS, {"batch": 2, "sequence": 2}, None)
    assert grown.tolist() == [[1, 2], [7, 7]]


def test_what_fits_stays_the_same_array():
    array = np.ones((2, 3), np.int64)
    assert pad(array, IDS, {"batch": 2, "sequence": 3}, "batch") is array


@given(
    have=st.tuples(*[st.integers(1, 4)] * 2),
    more=st.tuples(*[st.integers(0, 3)] * 2),
    batch=st.sampled_from(["batch", None]),
)
def test_unpadding_gives_back_what_was_padded(have, more, batch):
    extents = dict(zip(("batch", "side"), have, strict=True))
    target = {name: extent + add for (name, extent), add in zip(extents.items(), more, strict=True)}
    array = np.random.default_rng(0).standard_normal((have[0], 3, have[1], have[1])).astype(np.float32)
    grown = pad(array, PIXELS, target, batch)
    assert grown.shape == PIXELS.shape_at(target)
    np.testing.assert_array_equal(unpad(grown, PIXELS, extents), array)
