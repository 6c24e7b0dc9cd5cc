import struct

import pytest

from nvfp4_trt.errors import FeatureUnsupportedError
from nvfp4_trt.kernels.launch import Device, quantize_launch
from nvfp4_trt.plugin.aot_kernels import NUMBERS, OPTIONAL, OUTPUTS, quantize_source
from nvfp4_trt.plugin.aot_plans import (
    BoundedIntegers,
    aot_tile,
    check_scaling,
    gemm_grid,
    launch_quantize,
    present_bits,
)
from nvfp4_trt.plugin.fields import QuantizeFields

DEVICE = Device(148, 227 * 1024)
NUMBERS_OF = BoundedIntegers()


@pytest.mark.parametrize("scaling", ["token", "static", "single"])
@pytest.mark.parametrize("function", ["none", "rms_norm", "silu"])
@pytest.mark.parametrize("k", [16, 80, 4096, 16384])
@pytest.mark.parametrize(("best", "most"), [(1, 64), (128, 500), (4096, 8192)])
def test_the_grid_is_the_kernels_own_at_every_m(scaling, function, k, best, most):
    """Where the pack's rules choose the same entry; elsewhere the optimum's runs, with blocks enough."""
    fields = QuantizeFields(scaling, function)

    def rules(m):
        return quantize_launch(fields.kernel, scaling, "bf16", m, k, DEVICE)

    own, largest = rules(best), rules(most)
    for m in sorted({1, 2, best, most, most // 2 + 1}):
        made = launch_quantize(NUMBERS_OF, fields, [m, k], (best, k), (most, k), "bf16", DEVICE)
        assert (made.entry, made.block, made.shared_bytes) == (own.entry, own.block, own.shared_bytes)
        assert made.numbers[4] == own.group
        wanted = rules(m)
        alike = {(each.entry, each.block) for each in (own, wanted)}
        if len(alike) == 1:
            assert made.grid >= wanted.grid
            assert made.grid == wanted.grid or (largest.entry, largest.block) not in alike


def test_the_numbers():
    fields = QuantizeFields("static", "layer_norm", 1e-5, has_residual=1, has_weight=1, emit_sum=1)
    made = launch_quantize(NUMBERS_OF, fields, [3, 7, 64], (3, 7, 64), (9, 7, 64), "f16", DEVICE)
    numbers = dict(zip(NUMBERS, made.numbers, strict=True))
    assert (numbers["m"], numbers["k"], numbers["function"]) == (21, 64, 0)
    assert struct.unpack("<f", struct.pack("<i", numbers["epsilon"]))[0] == pytest.approx(1e-5)
    there = {name for i, name in enumerate(OPTIONAL) if numbers["present"] >> i & 1}
    assert there == {"other", "weight", "scale_in", "sum"}
    assert present_bits(QuantizeFields("token")) == 0


def test_a_scale_per_tensor_is_refused():
    check_scaling(QuantizeFields("token"), "fc/Nvfp4Quantize")
    with pytest.raises(FeatureUnsupportedError, match="fc/Nvfp4Quantize computes one scale") as caught:
        check_scaling(QuantizeFields("tensor"), "fc/Nvfp4Quantize")
    assert "--plugin-form jit" in caught.value.hint


def test_a_gemms_tile_and_grid():
    rows = [
        {"max_m": 16, "max_n": None, "max_k": None, "tile": "16x128x256", "split_k": 4},
        {"max_m": None, "max_n": None, "max_k": None, "tile": "128x128x128", "split_k": 1},
    ]
    assert aot_tile(rows, 16, 256, 4096) == "16x128x256"
    assert aot_tile(rows, 17, 256, 4096) == "128x128x128"
    assert gemm_grid(NUMBERS_OF, 200, 264, 128, 128) == 2 * 3


def test_an_entrys_parameters_become_the_structure():
    text = "NAME(const __grid_constant__ nvfp4::Args args) { body(args); }"
    made = quantize_source(text)
    order = [
        made.index(f" {name},") for name in ("x", "other", "weight", "bias", "scale_in", *NUMBERS, *OUTPUTS[:-1])
    ]
    assert order == sorted(order)
    assert "args.weight = (present >> 1 & 1) != 0 ? weight : nullptr;" in made
    assert "args.codes = codes;" in made
    assert made.endswith("body(args); }")
    assert quantize_source("nothing of the kind") == "nothing of the kind"
