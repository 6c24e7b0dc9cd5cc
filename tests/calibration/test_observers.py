import numpy as np
import pytest
import torch

from nvfp4_trt import format as fmt
from nvfp4_trt.calibration.observers import OBSERVERS, amax_of, observer_of
from nvfp4_trt.calibration.statistics import Statistics
from nvfp4_trt.recipe import MOST_RATIO, Activations, ObserverName, Recipe

BIN = 1 / 64
"""The relative width of a bin of magnitudes."""


def static(observer, **parameters):
    return Activations(scaling="static", observer=observer, **parameters)


def seen_by(observer, x):
    seen = Statistics.empty(OBSERVERS[observer].wants)
    seen.add(x)
    return seen


def amax(observer, x, **parameters):
    return amax_of(seen_by(observer, x), static(observer, **parameters))


def error(x, largest):
    """The mean squared error of an activation whose static scale is for `largest`."""
    scale = fmt.scale_from_amax(torch.tensor(largest))[0]
    return float((fmt.dequantize(*fmt.quantize(x, scale), scale) - x).double().square().mean())


@pytest.fixture(scope="module")
def activation():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 128, generator=generator)
    return x * torch.exp(torch.randn(256, 1, generator=generator))


def test_every_observer_of_a_recipe_is_there():
    assert set(OBSERVERS) == set(ObserverName)
    with pytest.raises(ValueError, match="dynamic"):
        observer_of(Recipe().activations)


@pytest.mark.parametrize("observer", ObserverName)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_constant_activation(observer, dtype):
    x = torch.full((64, 64), 3.0, dtype=dtype)
    assert error(x.float(), amax(observer, x)) < 1e-3 * 9


@pytest.mark.parametrize("observer", ObserverName)
@pytest.mark.parametrize("value", [0.0, 1e-45, 3.4e38])
def test_extremes_give_a_scale_that_works(observer, value):
    found = amax(observer, torch.full((4, 64), value))
    assert np.isfinite(found)
    assert found == np.float32(found)
    assert torch.isfinite(fmt.scale_from_amax(torch.tensor(found))[0])


@pytest.mark.parametrize("observer", ObserverName)
def test_a_scale_follows_its_activation(observer, activation):
    """A power of two changes neither bins nor codes, so each observer moves along."""
    assert amax(observer, activation * 16) == 16 * amax(observer, activation)


def test_max_is_exact(activation):
    assert amax("max", activation) == float(activation.abs().max())


@pytest.mark.parametrize("percent", [50, 99, 99.9, 100])
def test_a_percentile_of_magnitudes(activation, percent):
    found = amax("percentile", activation, percentile=percent)
    exact = float(np.percentile(activation.abs(), percent, method="inverted_cdf"))
    assert exact <= found <= exact * (1 + BIN)
    assert found <= float(activation.abs().max())


def test_a_percentile_is_not_drawn_to_zero(activation):
    mostly = torch.cat([activation, torch.zeros(60_000, 128)])
    assert amax("percentile", mostly, percentile=99) == amax("percentile", activation, percentile=99)


@pytest.mark.parametrize(("anchor", "ratio"), [(1.0, 16384.0), (5.0, 1000.0), (50.0, 1.0)])
def test_headroom_is_a_ratio_over_a_low_block_but_no_less_than_a_high_one(activation, anchor, ratio):
    maxima = activation.abs().reshape(-1, 16).amax(dim=1).numpy()
    found = amax("headroom", activation, anchor=anchor, ratio=ratio, percentile=99.0)
    low, high = (np.percentile(maxima, p, method="inverted_cdf") for p in (anchor, 99.0))
    assert found == pytest.approx(max(ratio * low, high), rel=BIN)


def test_headroom_takes_larger_activations_where_max_saturates(activation):
    later = activation * 30
    kept, lost = (error(later, amax(observer, activation)) for observer in ("headroom", "max"))
    assert kept < 0.05 * lost
    now, least = (error(activation, amax(observer, activation)) for observer in ("headroom", "max"))
    assert now < 1.1 * least  # and costs nothing where it is not needed


def test_mse_finds_what_a_search_on_the_data_finds(activation):
    """Counts stand for the data: no candidate of a direct search is better by more than one in twenty."""
    outlier = activation.clone()
    outlier[0, 0] = 3000.0  # with a scale for it, most blocks' scales lose bits
    for x in (activation, outlier, torch.relu(activation)):
        largest = float(x.abs().max())
        direct = min(error(x, largest * 2 ** (k / 16)) for k in range(-64, 17, 2))
        assert error(x, amax("mse", x)) <= 1.05 * direct


def test_mse_saturates_nothing_that_costs_more_than_it_gains():
    x = torch.full((100, 16), 1.0)
    x[0] = 64.0
    assert amax("mse", x) >= 64.0


def test_entropy_keeps_apart_what_max_maps_to_one_level():
    """Block maxima of two magnitudes that e4m3 tells apart only where neither saturates, nor both round to one."""
    x = torch.full((64, 16), 1.02)
    x[::8] = 1.05
    found = amax("entropy", x)
    scale = fmt.scale_from_amax(torch.tensor(found))[0]
    assert len(set(fmt.quantize(x, scale)[1].view(torch.uint8).flatten().tolist())) == 2
    scale = fmt.scale_from_amax(torch.tensor(amax("max", x)))[0]
    assert len(set(fmt.quantize(x, scale)[1].view(torch.uint8).flatten().tolist())) == 1


def test_entropy_cuts_nothing_off(activation):
    assert amax("entropy", activation) >= float(activation.abs().max())


def test_the_ratio_at_which_block_scales_lose_bits():
    scale = fmt.scale_from_amax(torch.tensor(MOST_RATIO))[0]
    for block, normal in ((1.0, True), (0.9, False)):
        x = torch.full((1, 16), block)
        byte = int(fmt.quantize(x, scale)[1].view(torch.uint8))
        assert (byte >> 3 > 0) == normal  # the exponent's bits
