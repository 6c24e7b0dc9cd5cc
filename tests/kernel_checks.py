"""Checks of the CUDA kernels on a GPU: `python -m tests.kernel_checks PACK`, by hand, where there is one.

Prints one table: each line a claim, how many cases it was checked on, and how many held. The exit status is 0
where all did. `--few` takes a few of the cases, for compute-sanitizer.
"""

import itertools
import os
import sys

import torch
from torch.nn import functional as F

from nvfp4_trt import ops
from nvfp4_trt.kernels import load_pack
from nvfp4_trt.kernels.tiles import choose_tile
from nvfp4_trt.quantization.cuda_gemm import gemm as fp4_gemm

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SCALINGS = ("token", "tensor", "static", "single")
ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}


class Table:
    """Counts what was checked and what held."""

    def __init__(self):
        self.failed = False

    def line(self, what, results):
        held = sum(results)
        self.failed |= held < len(results) or not results
        print(f"| {what} | {held} of {len(results)} |", flush=True)


def poison(*like):
    """Leave memory of these sizes full of a pattern to the allocator, which hands it out next."""
    for size in like:
        torch.full((size,), 0xA5, dtype=torch.uint8, device="cuda")


def same(a, b):
    if a.dtype == torch.float8_e4m3fn:
        a, b = a.view(torch.uint8), b.view(torch.uint8)
    if a.is_floating_point():
        return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
    return torch.equal(a, b)


def tensors(count, generator):
    """Random shapes, dtypes and distributions."""

    def random(*shape):
        return torch.randn(*shape, generator=generator, device="cuda")

    for i in range(count):
        rows = int(torch.randint(1, 700, (1,), generator=torch.Generator().manual_seed(i)))
        k = 16 * int(torch.randint(1, 300, (1,), generator=torch.Generator().manual_seed(1000 + i)))
        if i % 40 == 39:
            rows, k = 3000, 4096
        x = random(rows, k) * 10.0 ** (random(1) * 3).clamp(-4, 4)
        if i % 7 == 1:
            x = x * torch.exp(3 * random(rows, k))
        if i % 7 == 2:
            x = torch.round(x / x.abs().max() * 24) / 4  # ties
            x[-1] = 0.0
        x = x.to(DTYPES[i % 3])
        if i % 7 == 3:
            x[0, 3], x[-1, -1], x[rows // 2, 0] = float("nan"), float("inf"), -float("inf")
        if i % 7 == 4:
            x[0, 0], x[-1, 1] = 30000.0, -0.0  # one outlier
        yield x


def check_quantize(table, count, runs):
    generator = torch.Generator("cuda").manual_seed(0)
    exact, values, again = {s: [] for s in SCALINGS}, [], []
    for i, x in enumerate(tensors(count, generator)):
        for scaling, tiled in itertools.product(SCALINGS, (False, True)):
            scale = torch.tensor(0.02, device="cuda") if scaling == "static" else None
            rule = "torchao" if i % 5 == 0 else "spec"
            expected = ops.quantize(x, scaling, scale, rule=rule, tiled=tiled, backend="torch")
            poison(*(each.nbytes for each in expected[:3]))
            found = ops.quantize(x, scaling, scale, rule=rule, tiled=tiled, backend="cuda")
            exact[scaling].append(all(same(a, b) for a, b in zip(found[:3], expected[:3], strict=True)))
        poison(x.nbytes)
        wanted = ops.dequantize(expected, x.dtype, backend="torch")
        values.append(same(ops.dequantize(expected, x.dtype, backend="cuda"), wanted))
        fake = torch.ops.nvfp4.fake_quantize_scaled(x, "tensor")
        quantized = ops.quantize(x, "tensor", backend="torch")
        values.append(same(fake, ops.dequantize(quantized, x.dtype, backend="torch")))
        if i < 12:
            for scaling in SCALINGS[:2]:
                first = ops.quantize(x, scaling, tiled=True, backend="cuda")
                again += [
                    all(
                        same(a, b)
                        for a, b in zip(first[:3], ops.quantize(x, scaling, tiled=True)[:3], strict=True)
                    )
                    for _ in range(runs)
                ]
    for scaling, results in exact.items():
        table.line(f"quantize, {scaling}: codes, block scales (both layouts), scale bit-equal", results)
    table.line("dequantize and fake-quantize bit-equal", values)
    table.line(f"quantize: {runs} runs identical", again)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
    "silu": F.silu,
    "relu": F.relu,
}


def near(found, exact, scale):
    """Whether values are within two roundings of fp64, and of fp32's arithmetic on numbers as large as `scale`."""
    unit = 2 * ROUNDING[found.dtype] + 2.0**-21
    bound = unit * (exact.abs() + 2.0**-14) + 2.0**-21 * scale
    return bool(((found.double() - exact).abs() <= bound).all())


def check_fused(table, count):
    generator = torch.Generator("cuda").manual_seed(1)
    codes, norms, activations = [], [], []
    for i, raw in enumerate(tensors(count, generator)):
        x = raw.nan_to_num(1.0, 2.0, -2.0).clamp(-60, 60)
        k, scaling = x.shape[-1], SCALINGS[i % 4]
        scale = torch.tensor(0.02, device="cuda") if scaling == "static" else None
        weight, bias, residual = (torch.randn(*s, device="cuda").to(x.dtype) for s in ((k,), (k,), x.shape))

        def agrees(got, scaling=scaling, scale=scale):
            expected = ops.quantize(got[3], scaling, scale, tiled=True, backend="torch")
            return all(same(a, b) for a, b in zip(got[:3], expected[:3], strict=True))

        for function in ("layer_norm", "rms_norm"):
            shift = bias if function == "layer_norm" else None
            poison(x.nbytes, x.nbytes, x.nbytes // 4)
            got = ops.norm_quantize(x, function, weight, shift, 1e-5, residual, scaling, scale, True, True)
            total = x + residual
            norm = F.layer_norm if function == "layer_norm" else F.rms_norm
            parameters = [each.double() for each in (weight, shift) if each is not None]
            codes.append(agrees(got) and same(got[4], total))
            exact = norm(total.double(), (k,), *parameters, eps=1e-5)
            norms.append(near(got[3], exact, exact.abs().amax(-1, keepdim=True)))
        both = torch.cat([x, residual], dim=-1)
        for name in (*ACTIVATIONS, "silu_mul"):
            other = both[:, k:] if name == "silu_mul" else None
            poison(x.nbytes, x.nbytes // 4)
            got = ops.activation_quantize(both[:, :k], name, other, scaling, scale, True, True)
            wide = x.double()
            exact = F.silu(wide) * residual.double() if name == "silu_mul" else ACTIVATIONS[name](wide)
            codes.append(agrees(got))
            activations.append(near(got[3], exact, wide.abs()))  # GELU subtracts from 1 what is nearly 1
    table.line("norm or activation + quantize: codes bit-equal to quantizing its own values; sums exact", codes)
    table.line("norms within two roundings of fp64", norms)
    table.line("activations within two roundings of fp64", activations)


def check_gemm(table, pack, sm, few, runs):
    results, again, chosen = [], [], []
    tiles = sorted({f.tile.name for f in pack.manifest.kernels if f.tile and f.sm == sm})
    shapes = [(1, 8, 32), (7, 24, 96), (130, 136, 544), (200, 512, 1024), (16, 4096, 4096), (300, 1024, 2048)]
    for tile, (m, n, k), split, dtype in itertools.product(tiles, shapes[: 2 if few else None], (1, 3), DTYPES):
        if -(-k // int(tile.split("x")[2])) < split:
            continue
        generator = torch.Generator("cuda").manual_seed(m * n + k)
        a = ops.quantize(torch.randn(m, k, generator=generator, device="cuda"), "token", tiled=True)
        b = ops.quantize(torch.randn(n, k, generator=generator, device="cuda"), "tensor", tiled=True)
        bias = torch.randn(n, generator=generator, device="cuda").to(dtype)
        wide = [ops.dequantize(each).double() for each in (a, b)]
        want = wide[0] @ wide[1].T + bias.double()
        sizes = wide[0].abs() @ wide[1].abs().T + bias.double().abs()
        poison(m * n * dtype.itemsize)
        got = fp4_gemm(a[:3], b[:3], bias, dtype, choice=(tile, split))
        bound = ROUNDING[dtype] * want.abs() * 1.01 + sizes * 2e-6
        results.append(bool(((got.double() - want).abs() <= bound).all()))
        if m * n < 100000:
            again += [
                torch.equal(got, fp4_gemm(a[:3], b[:3], bias, dtype, choice=(tile, split))) for _ in range(runs)
            ]
    for m, n, k in shapes[:2]:
        rows = pack.manifest.gemm_tiles[f"sm_{sm}"]["rows"]
        chosen.append(choose_tile(rows, m, n, k)[0] in tiles)
    table.line("GEMM, every tile, split 1 and 3, three dtypes: within rounding of fp64", results)
    table.line(f"GEMM: {runs} runs identical", again)
    table.line("the tile table names tiles of the pack", chosen)


def check_graphs(table, steps):
    """Captured launches, replayed on other data, beside eager ones."""
    results = []
    for shape, scaling in itertools.product(((128, 4096), (3000, 4096), (5, 4096)), SCALINGS[:2]):
        x = torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
        ops.quantize(x, scaling)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = ops.quantize(x, scaling)
        for step in range(steps):
            x.copy_(torch.randn_like(x) * 2.0**step)
            if step == steps - 1:
                x[0, 5] = float("nan")
            graph.replay()
            expected = ops.quantize(x, scaling, backend="torch")
            results.append(all(same(a, b) for a, b in zip(out[:3], expected[:3], strict=True)))
            ops.quantize(x, scaling)
    table.line("CUDA graphs replayed on new data, eager launches between: bit-equal", results)


def main() -> int:
    os.environ["NVFP4_TRT_PACK"] = sys.argv[1]
    pack, few = load_pack(sys.argv[1]), "--few" in sys.argv
    major, minor = torch.cuda.get_device_capability()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n\n| claim | cases that hold |\n|---|---|")
    table = Table()
    runs = 2 if few else 100
    check_quantize(table, 7 if few else 210, runs)
    check_fused(table, 7 if few else 60)
    check_gemm(table, pack, major * 10 + minor, few, runs)
    check_graphs(table, 2 if few else 20)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
