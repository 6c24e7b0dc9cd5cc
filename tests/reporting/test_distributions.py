"""Counting codes and scales, against decoding every value."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.format.constants import E2M1_VALUES
from nvfp4_trt.portable import load, stored_weights
from nvfp4_trt.reporting.data import EXPONENTS, GRID
from nvfp4_trt.reporting.distributions import Counter, weight_distributions

POSITIVE = st.integers(0, 126)  # of e4m3: 0 to 448


def counted(packed, scales):
    counter = Counter()
    counter.add(np.array(packed, dtype=np.uint8), np.array(scales, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn))
    return counter


@given(st.lists(st.integers(0, 255), min_size=1, max_size=64))
def test_codes_are_those_of_both_nibbles(packed):
    values = [E2M1_VALUES[code] + 0.0 for byte in packed for code in (byte & 15, byte >> 4)]
    codes = counted(packed, [56]).codes()
    assert dict(zip(GRID, codes.counts, strict=True)) == {value: values.count(value) for value in GRID}


@given(st.lists(POSITIVE, min_size=1, max_size=64))
def test_scales_by_power_of_two(stored):
    values = np.array(stored, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float)
    found = counted([0], stored).scales()
    positive = values[values > 0]
    for exponent, count in zip(EXPONENTS, found.counts, strict=True):
        assert count == int(((positive >= 2.0**exponent) & (positive < 2.0 ** (exponent + 1))).sum())
    assert found.zeros == int((values == 0).sum())
    assert found.largest == int((values == 448).sum())
    assert found.subnormal == int(((positive > 0) & (positive < 2.0**-6)).sum())
    assert (found.low, found.high) == (positive.min(initial=448) if positive.size else 0, values.max())
    assert found.quartiles[1] == np.quantile(values, 0.5, method="inverted_cdf")


def test_counts_add_up_over_tensors():
    one, two = counted([1, 2], [8, 9]), counted([1], [8])
    one.add(np.array([1], dtype=np.uint8), np.array([8], dtype=np.uint8).view(ml_dtypes.float8_e4m3fn))
    assert one.codes().counts[GRID.index(0.5)] == 2 * two.codes().counts[GRID.index(0.5)]
    assert sum(one.scales().counts) == 3


def test_nan_blocks_are_told_and_left_out():
    counter = counted([0], [127, 56])
    assert counter.codes().nan_blocks == 1
    assert sum(counter.scales().counts) == 1


def test_every_weight_of_a_file(made):
    model, _ = load(made.onnx)
    found = weight_distributions(model)
    stored = {held.layer: held.tensors for held in stored_weights(model)}
    assert set(found) == set(stored) == {"query", "key", "value", "out", "pooler"}
    for name, (codes, scales) in found.items():
        packed, block_scale, _ = stored[name]
        assert sum(codes.counts) == 2 * packed.numpy().size
        assert sum(scales.counts) + scales.zeros == block_scale.numpy().size
        assert scales.high == pytest.approx(float(block_scale.numpy().astype(float).max()))
