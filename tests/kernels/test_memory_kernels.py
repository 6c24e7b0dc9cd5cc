"""The quantizing kernels, run on a CPU, against the format and against fp64, bit by bit where that can be."""

import pytest
import torch
import torch.nn.functional as F
from emulator import DTYPES, EVERYTHING, POISON, SMALL_GPU, new_state
from quantize_cases import ARITHMETIC, EVERY_DTYPE, KINDS, STATIC_SCALES, differences, make, outer_scale, same_bits

from nvfp4_trt import format as nvfp4
from nvfp4_trt.kernels.arguments import ACTIVATIONS, NORMS, ROW_MAJOR, TILED
from nvfp4_trt.kernels.launch import COUNTERS_OFFSET, Device, quantize_launch

SCALINGS = ("token", "tensor", "static", "single")
EVERY_SCALING = pytest.mark.parametrize("scaling", SCALINGS)

SMALL_SHAPES = ((1, 16), (1, 1040), (3, 48), (3, 80), (130, 16), (33, 80))
LARGE_SHAPES = ((130, 48), (200, 80), (200, 1040), (1, 8208), (3, 8208), (2, 16400))
"""Each is run with some of the kinds, the small ones with all."""

ONE = Device(multiprocessors=1, shared_bytes=100_000)
SCANT = Device(multiprocessors=3, shared_bytes=40_000)
LAUNCHES = {
    "a row of a few threads": ("token", (9, 80), SMALL_GPU, "token_short"),
    "a row of a block of threads": ("token", (9, 8000), SMALL_GPU, "token_short"),
    "several blocks a thread": ("token", (200, 80), SMALL_GPU, "token_long"),
    "rows beyond registers": ("token", (2, 16400), SMALL_GPU, "token_long"),
    "one small block": ("tensor", (9, 80), SMALL_GPU, "tensor_small"),
    "three small blocks": ("tensor", (40, 272), SMALL_GPU, "tensor_small"),
    "some held, the rest stashed": ("tensor", (200, 528), SMALL_GPU, "tensor_large"),
    "held, stashed and read again": ("tensor", (600, 528), SCANT, "tensor_large"),
    "more rows at once than there are": ("tensor", (100, 144), SMALL_GPU, "tensor_large"),
    "one large block": ("tensor", (100, 272), ONE, "tensor_large"),
}


def inputs(shape, dtype, kinds=tuple(KINDS)):
    generator = torch.Generator().manual_seed(shape[0] * 100_003 + shape[1])
    return {kind: make(kind, shape, DTYPES[dtype][1], generator) for kind in kinds}


def static_for(scaling, i):
    return STATIC_SCALES[i % len(STATIC_SCALES)] if scaling == "static" else None


@ARITHMETIC
@EVERY_DTYPE
@EVERY_SCALING
def test_quantize_is_bit_equal(emulator, scaling, dtype, native):
    kernel = emulator("quantize", dtype, native)
    names = tuple(KINDS)
    kinds_of = dict.fromkeys(SMALL_SHAPES, names)
    kinds_of |= {shape: (*names, *names)[3 * i % len(names) :][:3] for i, shape in enumerate(LARGE_SHAPES)}
    wrong = {}
    for shape, kinds in kinds_of.items():
        for i, (kind, x) in enumerate(inputs(shape, dtype, kinds).items()):
            static, layout = static_for(scaling, i), (TILED, ROW_MAJOR)[i % 2]
            result = kernel.run(scaling, x, scale=static, layout=layout)
            if found := differences(result, x, scaling, static=static, layout=layout):
                wrong[shape, kind] = found
    assert not wrong


@EVERY_DTYPE
@pytest.mark.parametrize("name", LAUNCHES)
def test_every_way_to_launch(emulator, name, dtype):
    scaling, shape, device, entry = LAUNCHES[name]
    launch = quantize_launch("quantize", scaling, dtype, *shape, device)
    assert launch.entry == entry
    kernel = emulator("quantize", dtype)
    for seed, (kind, x) in enumerate(inputs(shape, dtype, ("heavy tails", "not finite")).items()):
        result = kernel.run(scaling, x, launch=launch, seed=seed)
        assert differences(result, x, scaling) == [], kind


@pytest.mark.parametrize(
    ("name", "stashed", "again"),
    [("some held, the rest stashed", 1, 0), ("held, stashed and read again", 1, 4)],
)
def test_the_launches_are_what_their_names_say(name, stashed, again):
    _, (rows, k), device, _ = LAUNCHES[name]
    launch = quantize_launch("quantize", "tensor", "bf16", rows, k, device)
    rounds = -(-rows // (launch.grid * launch.block // (k // 16)))
    held = 2
    assert (launch.stash, rounds - held - launch.stash) == (stashed, again)


@EVERY_SCALING
@ARITHMETIC
def test_rows_apart(emulator, scaling, native):
    """What lies between the rows is not read: it is NaN. Nor is what lies before and behind."""
    for dtype, (m, k) in (("bf16", (130, 80)), ("f32", (9, 1040)), ("f16", (33, 48))):
        kernel = emulator("quantize", dtype, native)
        around = torch.full((m + 2, k + 32), float("nan"), dtype=DTYPES[dtype][1])
        x = around[1:-1, 16:-16]
        x[:] = inputs((m, k), dtype)["heavy tails"]
        static = static_for(scaling, 0)
        assert differences(kernel.run(scaling, x, scale=static), x, scaling, static=static) == []


@EVERY_SCALING
@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_a_floor_is_torchaos_rule(emulator, scaling, dtype):
    kernel, other = emulator("quantize", dtype), []
    for i, (kind, x) in enumerate(inputs((33, 80), dtype).items()):
        static = static_for(scaling, i)
        result = kernel.run(scaling, x, scale=static, floor=2.0**-6)
        assert differences(result, x, scaling, static=static, rule=nvfp4.TORCHAO) == [], kind
        other += differences(result, x, scaling, static=static)
    assert "scales" in other, "no case tells the rules apart"


@EVERY_SCALING
@pytest.mark.parametrize("kernel", ["quantize", "activation_quantize", "norm_quantize"])
def test_only_what_is_asked_for(emulator, kernel, scaling):
    function = {"quantize": "", "activation_quantize": "gelu", "norm_quantize": "rms_norm"}[kernel]
    x, options = inputs((33, 80), "bf16")["heavy tails"], {"function": function, "scale": static_for(scaling, 0)}
    run = emulator(kernel, "bf16").run
    everything = run(scaling, x, **options)
    for wanted in (("codes", "scales"), ("codes", "scales", "scale"), ("fake", "scale"), ("fake",)):
        some = run(scaling, x, wanted=wanted, **options)
        for name in EVERYTHING:
            given = getattr(some, name)
            if name in wanted:
                assert same_bits(given, getattr(everything, name)), (wanted, name)
            else:
                assert (given.contiguous().view(torch.uint8) == POISON).all(), (wanted, name)


@EVERY_DTYPE
@EVERY_SCALING
@pytest.mark.parametrize("layout", [TILED, ROW_MAJOR], ids=["tiled", "row-major"])
def test_dequantize_is_bit_equal(emulator, scaling, dtype, layout):
    kernel, T = emulator("dequantize", dtype), DTYPES[dtype][1]
    for shape in ((1, 16), (3, 1040), (130, 80), (200, 272)):
        for i, (kind, x) in enumerate(inputs(shape, dtype).items()):
            scale = outer_scale(x, scaling, static_for(scaling, i))
            codes, blocks = nvfp4.quantize(x, scale)
            byte = blocks.view(torch.uint8)
            scales = nvfp4.swizzle_scales(byte).contiguous() if layout == TILED else byte
            values = kernel.dequantize(codes, scales, scale, layout=layout)
            assert same_bits(values, nvfp4.dequantize(codes, blocks, scale, T)), (shape, kind)


def test_a_stream_of_launches_shares_the_state(emulator):
    """Kernels, grids and NaN in any order: each launch leaves what the next one needs."""
    kernels = [emulator(name, "bf16") for name in ("quantize", "norm_quantize", "activation_quantize")]
    state, kept = new_state(), [kernel.state for kernel in kernels]
    barriers = 0
    generator = torch.Generator().manual_seed(5)
    try:
        for kernel in kernels:
            kernel.state = state
        for i in range(36):
            kernel = kernels[i % 3]
            device = (SMALL_GPU, Device(7, 40_000), ONE, Device(2, 100_000))[i % 4]
            x = make(("heavy tails", "not finite")[i // 5 % 2], (40 + i, 160), torch.bfloat16, generator)
            options = {"device": device, "seed": i, "function": ("", "layer_norm", "relu")[i % 3]}
            result = kernel.run("tensor", x, **options)
            values = x if kernel.kernel == "quantize" else result.values
            assert differences(result, values, "tensor") == [], i
            grid = quantize_launch(kernel.kernel, "tensor", "bf16", *x.shape, device).grid
            barriers += (1 + (not values.isfinite().all())) * (grid > 1)
        assert state[0] == barriers > 24
        assert not state[COUNTERS_OFFSET // 8 : 65536 // 8].any()
    finally:
        for kernel, own in zip(kernels, kept, strict=True):
            kernel.state = own


def test_the_number_of_barriers_may_wrap(emulator):
    kernel = emulator("quantize", "bf16")
    kernel.state = new_state()
    kernel.state[0] = 2**32 - 3
    for kind, x in inputs((40, 272), "bf16", ("decades", "not finite", "ties")).items():
        assert differences(kernel.run("tensor", x), x, "tensor") == [], kind


@pytest.mark.parametrize(("kernel", "function"), [("quantize", ""), ("norm_quantize", "layer_norm")])
def test_results_repeat_whatever_overtakes_what(emulator, kernel, function):
    x = inputs((100, 272), "bf16")["heavy tails"]
    run = emulator(kernel, "bf16").run
    for scaling in ("token", "tensor"):
        first = run(scaling, x, function=function)
        for seed in range(1, 8):
            again = run(scaling, x, function=function, seed=seed)
            assert all(same_bits(getattr(first, name), getattr(again, name)) for name in EVERYTHING)


def reference(function, x, other, weight, bias):
    """Return a function's result in fp64."""
    x = x.double()
    if function == "layer_norm":
        return F.layer_norm(x, x.shape[-1:], *(None if p is None else p.double() for p in (weight, bias)), 1e-5)
    if function == "rms_norm":
        normed = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)
        return normed if weight is None else normed * weight.double()
    if function == "silu_mul":
        return F.silu(x) * other.double()
    approximate = "tanh" if function == "gelu_tanh" else "none"
    return F.gelu(x, approximate=approximate) if function.startswith("gelu") else getattr(F, function)(x)


def close(values, expected):
    """One rounding to the dtype, and a few of fp32's before it."""
    half_ulp = torch.finfo(values.dtype).eps / 2 * 1.001
    allowed = half_ulp * expected.abs() + 2e-6 * (1 + expected.abs())
    return ((values.double() - expected).abs() <= allowed) | (values.isnan() & expected.isnan())


FUSED_SHAPES = ((3, 48), (130, 512), (40, 1040), (2, 16400))


@EVERY_DTYPE
@pytest.mark.parametrize("function", ACTIVATIONS)
def test_activations(emulator, function, dtype):
    kernel, T = emulator("activation_quantize", dtype), DTYPES[dtype][1]
    generator = torch.Generator().manual_seed(0)
    for scaling, (m, k) in zip(SCALINGS, FUSED_SHAPES, strict=True):
        both = (3 * torch.randn(m, 2 * k, generator=generator)).to(T)
        x, other = both[:, :k], both[:, k:] if function == "silu_mul" else None
        static = static_for(scaling, 0)
        result = kernel.run(scaling, x, function=function, other=other, scale=static)
        assert close(result.values, reference(function, x, other, None, None)).all()
        assert differences(result, result.values, scaling, static=static) == []


@EVERY_DTYPE
@pytest.mark.parametrize("function", NORMS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
def test_norms(emulator, function, dtype, residual):
    kernel, T = emulator("norm_quantize", dtype), DTYPES[dtype][1]
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(T)

    for i, scaling in enumerate(SCALINGS * 2):
        m, k = FUSED_SHAPES[i % 4] if i < 4 else (9, 80)
        x, other = normal(m, k + 16)[:, :k], normal(m, 2 * k)[:, k:] if residual else None
        weight, bias = normal(k) if i % 2 == 0 else None, normal(k) if function == "layer_norm" and i < 5 else None
        static = static_for(scaling, 0)
        result = kernel.run(
            scaling, x, function=function, other=other, weight=weight, bias=bias, scale=static, seed=i
        )
        added = (x.float() + other.float()).to(T) if residual else x
        assert not residual or torch.equal(result.sum, added)
        assert close(result.values, reference(function, added, None, weight, bias)).all()
        assert differences(result, result.values, scaling, static=static) == []


@pytest.mark.parametrize("scaling", ["token", "tensor"])
@pytest.mark.parametrize("function", [*NORMS, *ACTIVATIONS])
def test_not_a_number_stays_where_it_is(emulator, function, scaling):
    kernel = emulator("norm_quantize" if function in NORMS else "activation_quantize", "bf16")
    x = inputs((40, 272), "bf16", ("decades",))["decades"]
    x[3, 20] = float("nan")
    other = torch.ones_like(x) if function == "silu_mul" else None
    result = kernel.run(scaling, x, function=function, other=other)
    poisoned = torch.zeros(x.shape, dtype=torch.bool)
    poisoned[3, slice(None) if function in NORMS else 20] = True
    assert torch.equal(result.values.isnan(), poisoned)
    assert differences(result, result.values, scaling) == []
