import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvfp4_trt.calibration.statistics import (
    BINS,
    MAGNITUDES,
    RATIO_BINS,
    RATIOS,
    Statistics,
    lower_edges,
    percentile_bin,
    upper_edges,
)

ALL = frozenset({MAGNITUDES, RATIOS})


def of(*tensors):
    seen = Statistics.empty(ALL)
    for x in tensors:
        seen.add(x)
    return seen


def same(a, b):
    return a.largest == b.largest and all(np.array_equal(x, y) for x, y in zip(a.counts, b.counts, strict=True))


def activation(rows, seed, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 48, generator=generator)
    return x * torch.exp(spread * torch.randn(rows, 48, generator=generator))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 12), seed=st.integers(0, 999), data=st.data())
def test_parts_in_any_order_add_up_to_the_whole(rows, seed, data):
    x = activation(rows, seed)
    order = data.draw(st.permutations(range(rows)))
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    parts = torch.tensor_split(x[list(order)], cuts)
    merged = Statistics.empty(ALL)
    for part in parts:
        merged.merge(of(part))
    assert same(merged, of(x))
    assert same(of(*parts), of(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_what_is_counted(dtype):
    x = activation(9, 5, spread=1.0).to(dtype)
    seen, magnitudes = of(x), x.float().abs().numpy()
    blocks = magnitudes.reshape(-1, 16)
    edges = [*lower_edges()[lower_edges() < np.inf], np.inf]
    assert seen.largest == magnitudes.max()
    assert np.array_equal(seen.magnitudes[: len(edges) - 1], np.histogram(magnitudes, edges)[0])
    assert np.array_equal(seen.blocks[: len(edges) - 1], np.histogram(blocks.max(1), edges)[0])
    within = blocks / blocks.max(1, keepdims=True)
    ratios = np.bincount(np.floor(within * 64).astype(int).ravel(), minlength=RATIO_BINS)
    assert np.array_equal(seen.ratios.reshape(-1, RATIO_BINS).sum(0), ratios)


def test_an_octave_has_its_own_ratios():
    x = torch.zeros(2, 16)
    x[0, :2], x[1, :2] = torch.tensor([1.0, 0.5]), torch.tensor([-1024.0, 0.0])
    ratios = of(x).ratios.reshape(-1, RATIO_BINS)
    assert (ratios[127, 64], ratios[127, 32], ratios[127, 0]) == (1, 1, 14)
    assert (ratios[137, 64], ratios[137, 0]) == (1, 15)


def test_edges_meet_and_the_bits_decide():
    assert np.array_equal(lower_edges()[1:], upper_edges()[:-1], equal_nan=True)
    for value in (1.0, np.nextafter(np.float32(1), np.float32(0)), 2688.0, 1e-38, 3.4e38):
        (place,) = np.flatnonzero(of(torch.full((1, 16), float(value))).blocks)
        assert lower_edges()[place] <= np.float32(value) < upper_edges()[place]


def test_an_activation_is_counted_in_pieces(monkeypatch):
    x = activation(64, 3)
    whole = of(x)
    monkeypatch.setattr("nvfp4_trt.calibration.statistics._PIECE", 160)
    assert same(of(x), whole)


def test_zeros_nothing_and_what_is_not_contiguous():
    assert same(of(torch.zeros(0, 48)), Statistics.empty(ALL))
    assert of(torch.zeros(3, 48)).blocks[0] == 9
    x = activation(16, 1)[:, :16]
    assert same(of(x.t()), of(x.t().contiguous()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible(value):
    x = torch.ones(2, 16)
    x[1, 3] = value
    for seen in (of(x, torch.ones(1, 16)), of(torch.ones(1, 16), x)):
        merged = of(torch.full((1, 16), 9.0))
        merged.merge(seen)
        assert not seen.largest < float("inf")
        assert not merged.largest < float("inf")


def test_percentiles_leave_zero_out():
    counts = np.zeros(BINS, np.int64)
    counts[[0, 10, 20, 30]] = [1000, 90, 9, 1]
    assert [percentile_bin(counts, p) for p in (1, 90, 90.1, 99, 99.1, 100)] == [10, 10, 20, 20, 30, 30]
