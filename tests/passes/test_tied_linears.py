"""One weight, one input, one GEMM: what is computed, and whose layers it is told to compute."""

import pytest
from both_sides import around, assert_leaves_alone, assert_same_bits, prefix

from nvfp4_trt.passes import TiedLinears, lower
from nvfp4_trt.passes.plugin_nodes import layers_at
from nvfp4_trt.portable import find_sites, load


@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a4-static", "w4a16"])
def test_two_layers_with_one_weight_on_one_input_are_one_gemm(portable, recipe):
    run = around(TiedLinears, portable("shared", recipe))
    assert run.changes == 1
    assert_same_bits(run)
    computed = [layers_at(site) for site in find_sites(run.model.graph)]
    assert computed.count(("tied", "tied_beside")) == 1
    assert {("tied_behind",), ("first",), ("copy_beside",), ("twice",)} <= set(computed)


def test_layers_with_weights_of_their_own_are_left_alone(portable):
    assert_leaves_alone(TiedLinears, prefix(TiedLinears, portable("heads").path))


@pytest.mark.parametrize("plugin", [False, True])
def test_both_layers_are_told_after_the_whole_lowering(portable, plugin):
    model, _ = load(portable("shared").path)
    lowering = lower(model, plugin=plugin)
    gemms = {**lowering.gemms, **lowering.plugin_gemms}
    assert ("tied", "tied_beside") in gemms.values()
    assert ("first", "copy_beside") in gemms.values()  # equal weights that are not one: stacked
    assert {layer for layers in gemms.values() for layer in layers} == set(lowering.scales)
    assert sorted(layers for layers in gemms.values() if layers in {("twice",), ("alias",)}) == [
        *[("alias",)] * 2,
        *[("twice",)] * 2,
    ]
