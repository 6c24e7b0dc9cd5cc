"""What samples of a time come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.timing import rate, summarize

TIMES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=50)


def test_a_few_samples():
    found = summarize([4.0, 1.0, 2.0, 3.0, 10.0])
    assert (found.count, found.median_ms, found.mean_ms, found.min_ms, found.max_ms) == (5, 3.0, 4.0, 1.0, 10.0)
    assert (found.p25_ms, found.p75_ms) == (2.0, 4.0)
    assert found.p95_ms == pytest.approx(8.8)
    assert found.spread == pytest.approx(2 / 3)


def test_one_sample():
    found = summarize([2.5])
    assert {found.median_ms, found.p5_ms, found.p99_ms, found.mean_ms} == {2.5}
    assert found.spread == 0.0


def test_times_of_zero():
    assert summarize([0.0, 0.0]).spread == 0.0
    assert rate(8, 0.0) == 0.0


@given(TIMES)
def test_percentiles_are_in_order_and_do_not_depend_on_the_samples_order(samples):
    found = summarize(samples)
    inner = [found.p5_ms, found.p25_ms, found.median_ms, found.p75_ms, found.p95_ms, found.p99_ms]
    assert np.all(np.diff([found.min_ms, *inner, found.max_ms]) >= -1e-9 * (1 + found.max_ms))
    assert summarize(samples[::-1]) == found.model_copy(update={"mean_ms": summarize(samples[::-1]).mean_ms})
    assert found.min_ms <= found.mean_ms * (1 + 1e-12) + 1e-300


@pytest.mark.parametrize("samples", [[], [float("nan")], [1.0, float("inf")], [-0.1, 1.0]])
def test_what_is_no_time(samples):
    with pytest.raises(ValueError, match=r"no sample was taken|is no time"):
        summarize(samples)


def test_rates():
    assert rate(8, 2.0) == 4000.0
