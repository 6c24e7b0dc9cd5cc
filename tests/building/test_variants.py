"""What a search tries, and the shapes that each variant is built for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.building.profiles import Range
from nvfp4_trt.building.variants import BUDGETS, OPTIMIZE, Variant, variants
from nvfp4_trt.passes import FORMS, PLAIN

fixed = st.integers(1, 64).map(lambda extent: Range(extent, extent, extent))
open_ = st.tuples(st.integers(1, 8), st.integers(0, 8), st.integers(1, 8)).map(
    lambda parts: Range(parts[0], parts[0] + parts[1], sum(parts))
)
ranges = st.dictionaries(st.sampled_from(["batch", "sequence", "images"]), fixed | open_)


def test_rows_are_padded_where_they_are_known_and_odd():
    shape = {"batch": Range(1, 1, 1)}
    for optimize in ("fast", "full"):
        found = variants(optimize, shape, odd_rows=True)
        assert found[:-1] == variants(optimize, shape)
        assert found[-1] == Variant(padded=True)
        assert found[-1].name == "operator, padded"
        assert found[-1].extents(shape) == {"batch": 1}
    assert variants("off", shape, odd_rows=True) == (Variant(),)


@given(st.sampled_from(OPTIMIZE), ranges)
def test_the_plain_one_comes_first_and_none_comes_twice(optimize, given_ranges):
    found = variants(optimize, given_ranges)
    assert found[0] == Variant(PLAIN, "")
    assert len(set(found)) == len(found)
    assert len({each.name for each in found}) == len(found)
    assert set(OPTIMIZE) == set(BUDGETS)
    if optimize == "off":
        assert len(found) == 1
    else:
        assert {each.form for each in found} == set(FORMS)


@given(ranges)
def test_full_tries_what_fast_tries(given_ranges):
    assert set(variants("fast", given_ranges)) <= set(variants("full", given_ranges))


@given(st.sampled_from(OPTIMIZE), ranges)
def test_every_variant_takes_the_shapes_that_were_asked_for(optimize, given_ranges):
    for variant in variants(optimize, given_ranges):
        found = variant.ranges(given_ranges)
        for name, asked in given_ranges.items():
            least, best, most = found[name]
            assert 1 <= least <= asked.min <= best == asked.opt
            assert most == asked.max or (name == variant.loosened and most == 2)
        for name, extent in variant.extents(given_ranges).items():
            assert found[name] == Range(extent, extent, extent)


def test_with_fixed_shapes_blocks_are_tried_where_the_rows_stay_open():
    shape = {"batch": Range(8, 8, 8), "sequence": Range(128, 128, 128)}
    _, blocks = (each for each in variants("fast", shape) if each.form in {PLAIN, "blocks"})
    assert blocks == Variant("blocks", "batch")
    assert blocks.ranges(shape)["batch"] == Range(7, 8, 8)
    assert blocks.extents(shape) == {"sequence": 128}
    assert Variant().extents(shape) == {"batch": 8, "sequence": 128}
    assert Variant("blocks").extents(shape) == {}


def test_where_every_extent_is_1_one_is_loosened_upwards():
    shape = {"batch": Range(1, 1, 1)}
    assert Variant("blocks", "batch") in variants("fast", shape)
    assert Variant("blocks", "batch").ranges(shape) == {"batch": Range(1, 1, 2)}


@pytest.mark.parametrize("shape", [{}, {"batch": Range(1, 8, 32)}])
def test_where_nothing_can_be_loosened(shape):
    assert all(not each.loosened for each in variants("full", shape))
