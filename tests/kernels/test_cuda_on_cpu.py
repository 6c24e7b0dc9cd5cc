"""The emulator that stands in for a GPU: its own arithmetic, and that a broken kernel does not pass in it."""

import shutil
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch
from emulator import SMALL_GPU, SOURCES, Emulator, LaunchError, build, new_state
from quantize_cases import differences, make

from nvfp4_trt.kernels.arguments import ROW_MAJOR, TILED
from nvfp4_trt.kernels.launch import quantize_launch

EVERY_16_BITS = np.arange(65536, dtype=np.uint16)
SPREAD = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)


@pytest.mark.parametrize(("dtype", "numpy_type"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_narrowing_and_widening(emulator, dtype, numpy_type):
    kernel = emulator("quantize", dtype)
    wide = np.empty(65536, dtype=np.float32)
    kernel.call("widen", 65536, EVERY_16_BITS, wide)
    expected = EVERY_16_BITS.view(numpy_type).astype(np.float32)
    assert np.array_equal(wide, expected, equal_nan=True)
    assert np.array_equal(np.signbit(wide), np.signbit(expected))
    finite = np.sort(wide[np.isfinite(wide)])
    ties = finite[1:] / 2 + finite[:-1] / 2
    numbers = np.concatenate([wide, ties, SPREAD])
    bits = np.empty(len(numbers), dtype=np.uint16)
    kernel.call("narrow", len(numbers), numbers, bits)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = numbers.astype(numpy_type)
    number = ~np.isnan(numbers)
    assert np.isnan(bits.view(numpy_type)[~number]).all()
    assert np.array_equal(bits[number], expected.view(np.uint16)[number])


def test_e4m3(emulator):
    kernel = emulator("quantize", "f32")
    every = np.arange(256, dtype=np.uint8)
    values, expected = np.empty(256, dtype=np.float32), every.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    kernel.call("value_of_e4m3", 256, every, values)
    number = ~np.isnan(expected)
    assert np.array_equal(values[number], expected[number])
    ordered = np.sort(expected[number])
    ties = (ordered[1:] + ordered[:-1]) / 2
    near = np.concatenate([np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)])
    x = np.concatenate([ordered, ties, near, SPREAD[~np.isnan(SPREAD)], np.float32([np.inf, 448.1, 464, 465])])
    bytes_ = np.empty(len(x), dtype=np.uint8)
    kernel.call("e4m3_of", len(x), x, bytes_)
    saturated = x.clip(-448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    assert np.array_equal(bytes_, saturated)


def changed(folder, file, before, after):
    """Return an emulator of `quantize` for bf16, compiled with one place of its sources changed."""
    sources = folder / "sources"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    text = (sources / file).read_text()
    assert text.count(before) == 1, f"{file} has {text.count(before)} times {before!r}"
    (sources / file).write_text(text.replace(before, after))
    return Emulator(build(folder, "quantize", "bf16", sources=sources), "quantize", "bf16")


def spoilt(kernel):
    """Return which outputs of a few launches are not the format's, and whether a launch failed."""
    kernel.state = new_state()
    generator, found = torch.Generator().manual_seed(0), set()
    for seed, kind in enumerate(("decades", "not finite", "ties", "smallest scale")):
        for scaling, shape in (("tensor", (130, 208)), ("token", (33, 80)), ("token", (3, 1040))):
            x = make(kind, shape, torch.bfloat16, generator)
            try:
                found.update(differences(kernel.run(scaling, x, seed=seed), x, scaling))
            except LaunchError:
                found.add("launch")
                kernel.state = new_state()
    return found


def test_right_kernels_pass(emulator):
    assert spoilt(emulator("quantize", "bf16")) == set()


WRONG = {
    "the largest values' product": ("codec.cuh", "divide(amax, 2688.0f)", "divide(amax, 2687.0f)", "scale"),
    "the smallest scale": ("codec.cuh", "6.018531076210112e-36f ?", "6.03e-36f ?", "scale"),
    "a code's weight": ("codec.cuh", "fused(a, 4.0f, ROUNDER)", "fused(a, 3.0f, ROUNDER)", "codes"),
    "a division's last step": (
        "codec.cuh", "fused(fused(-b, quotient, a), inverse, quotient)", "fused(0.0f * b, a, quotient)", "codes",
    ),
    "what NaN counts as": ("codec.cuh", "INFINITY_BITS ? 0.0f", "INFINITY_BITS ? FLOAT_MAX", "scale"),
    "the scale of a NaN": ("codec.cuh", "poisoned ? 0x7Fu", "poisoned ? 0x7Eu", "scales"),
    "where tiles keep a row": ("arguments.cuh", "(r >> 3 & 12)", "(r >> 4 & 12)", "scales"),
    "columns of padding": ("arguments.cuh", "(place.k + pad) % 4", "(place.k + pad) % 2", "scales"),
    "rows of padding": ("arguments.cuh", "if (r >= rows)", "if (r > rows)", "scales"),
    "a barrier's number": ("reduce.cuh", "store_published(args.state, number);", "{}", "launch"),
    "waiting for a block's threads": (
        "reduce.cuh", "[threadIdx.x / WARP] = value;\n  __syncthreads()", "[threadIdx.x / WARP] = value", "scale",
    ),
}  # fmt: skip
"""File, what stands there, what is put in its place, and an output that must be spoilt by it."""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_noticed(tmp_path, name):
    *change, output = WRONG[name]
    assert output in spoilt(changed(tmp_path, *change))


def run_on_normal(kernel, scaling="tensor", **options):
    kernel.state = new_state()
    x = torch.randn(40, 272, generator=torch.Generator().manual_seed(0)).bfloat16()
    return kernel.run(scaling, x, **options)


@pytest.mark.parametrize(
    "change",
    [
        ("reduce.cuh", "!= number);", "!= number + 1);"),
        ("reduce.cuh", "i < gridDim.x; i += blockDim.x) {\n      store", "i < 1; i += blockDim.x) {\n      store"),
        ("reduce.cuh", "  value = warp_max(value);\n", "  if (threadIdx.x % WARP) value = warp_max(value);\n"),
    ],
    ids=["a number that never comes", "a block that is left out", "a lane that stays away"],
)  # fmt: skip
def test_a_deadlock_ends(tmp_path, change):
    kernel = changed(tmp_path, *change)
    for seed in (0, 1):
        with pytest.raises(LaunchError, match="deadlock"):
            run_on_normal(kernel, seed=seed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("arguments.cuh", "static_cast<int64_t>(k) * 8,", "static_cast<int64_t>(k) * 8 - 8,"), "beside codes"),
        (("arguments.cuh", "(k >> 2) * 512 + (k & 3)", "(k >> 2) * 512 + (k & 3) - 16"), "beside scales"),
    ],
)
def test_a_write_beside_an_output_is_noticed(tmp_path, change, said):
    with pytest.raises(LaunchError, match=said):
        run_on_normal(changed(tmp_path, *change), "single", layout=ROW_MAJOR if "codes" in said else TILED)


def test_a_write_beyond_shared_memory_is_noticed(emulator):
    x = torch.randn(200, 528).bfloat16()
    launch = quantize_launch("quantize", "tensor", "bf16", *x.shape, SMALL_GPU)
    assert launch.stash == 1
    small = replace(launch, shared_bytes=launch.shared_bytes - 64)
    with pytest.raises(LaunchError, match="beyond a block's shared memory"):
        emulator("quantize", "bf16").run("tensor", x, launch=small)
