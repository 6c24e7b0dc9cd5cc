"""The quantizing kernels against memory, against each other, and against torchao: one run, medians, one table.

    NVFP4_TRT_PACK=PACK python benchmarks/kernels.py

Needs an NVIDIA GPU with kernels (Hopper or Blackwell). Bytes are what must be read and written once, the input
twice where a run-time scale over a tensor of more than 32 MiB takes two passes; "of copy" is that over the best
bandwidth of the ways to copy 1 GiB that torch has. Calls are captured into a CUDA graph, many at once, which is
replayed; torchao's compiled function (compiled anew for each shape) is timed with events around many calls.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

import torch

from nvfp4_trt import ops
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.recipe import RECIPES

if TYPE_CHECKING:
    from collections.abc import Callable

BF16 = torch.bfloat16


def timed(call: Callable[[], object], calls: int = 20, repeats: int = 9) -> float:
    """Return the median time of a call in a replayed graph, in microseconds."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    return _replayed(graph.replay, repeats) / calls


def looped(call: Callable[[], object], calls: int = 20, repeats: int = 9) -> float:
    """Return the median time of a call without a graph, in microseconds; for large work only."""
    call()

    def loop() -> None:
        for _ in range(calls):
            call()

    return _replayed(loop, repeats) / calls


def _replayed(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Return bytes read and written in a microsecond by the fastest copy of 1 GiB."""
    a = torch.empty(1 << 29, dtype=BF16, device="cuda")
    b = torch.empty_like(a)
    fastest = min(
        timed(lambda: torch.neg(a, out=b), 5), looped(lambda: b.copy_(a), 5), timed(lambda: b.copy_(a), 5)
    )
    return 2 * a.nbytes / fastest


def needed_bytes(m: int, k: int, scaling: str) -> int:
    once = m * k * 2
    reads = 2 if scaling == "tensor" and once > 32 << 20 else 1
    return once * reads + m * k // 2 + m * k // 16


def main() -> None:
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    bandwidth = copy_bandwidth()
    print(f"copy: {bandwidth / 1e3:.0f} GB/s\n")
    table = {}
    print("| bf16 quantize | shape | time | of copy |\n|---|---|---|---|")
    for m, k in ((16384, 8192), (8192, 8192), (4096, 4096), (128, 4096), (1, 4096)):
        x = torch.randn(m, k, device="cuda", dtype=BF16)
        scale = torch.tensor(0.01, device="cuda")
        for scaling in ("tensor", "token", "static", "single"):
            given = scale if scaling == "static" else None
            each = timed(
                lambda x=x, s=scaling, g=given: ops.quantize(x, s, g, tiled=True), 20 if m > 1000 else 200
            )
            table[m, k, scaling] = each
            share = f"{needed_bytes(m, k, scaling) / each / bandwidth:.2f}" if m > 1000 else ""
            print(f"| {scaling} | {m}x{k} | {each:.2f} µs | {share} |")
    print("\n| small, run time over single-level | per tensor | per token |\n|---|---|---|")
    for m, k in ((128, 4096), (1, 4096)):
        single = table[m, k, "single"]
        print(f"| {m}x{k} | {table[m, k, 'tensor'] / single:.2f} | {table[m, k, 'token'] / single:.2f} |")
    torchao(table)
    fused()
    seed()


def torchao(table: dict[tuple[int, int, str], float]) -> None:
    """Compare with torchao's two-level quantization of the same tensor, compiled."""
    try:
        from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale
    except ImportError as error:
        print(f"\ntorchao is not installed: no comparison ({error})")
        return

    @torch.compile(fullgraph=True, dynamic=False)
    def two_level(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = per_tensor_amax_to_scale(x.abs().max())
        made = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale, is_swizzled_scales=True)
        return made.qdata, made.scale

    print("\n| torchao, two-level, compiled | time | over ours |\n|---|---|---|")
    for m, k in ((16384, 8192), (4096, 4096)):
        x = torch.randn(m, k, device="cuda", dtype=BF16)
        each = looped(lambda x=x: two_level(x))
        print(f"| {m}x{k} | {each:.1f} µs | {each / table[m, k, 'tensor']:.1f} |")


def fused() -> None:
    """Compare a norm or an activation and its quantization in one kernel with the two apart."""
    print("\n| fused, bf16, per token | shape | one kernel | two | ratio |\n|---|---|---|---|---|")
    for m, k in ((16384, 8192), (4096, 4096), (128, 4096)):
        x = torch.randn(m, k, device="cuda", dtype=BF16)
        weight = torch.randn(k, device="cuda", dtype=BF16)
        both = torch.randn(m, 2 * k, device="cuda", dtype=BF16)
        norm = torch.compile(lambda x, w: torch.nn.functional.rms_norm(x, x.shape[-1:], w, 1e-5))
        gate = torch.compile(lambda b: torch.nn.functional.silu(b[:, : b.shape[1] // 2]) * b[:, b.shape[1] // 2 :])
        calls = 20 if m > 1000 else 200
        rows = {
            "RMSNorm": (
                lambda x=x, w=weight: ops.norm_quantize(x, "rms_norm", w, None, 1e-5, tiled=True),
                lambda x=x, w=weight, norm=norm: ops.quantize(norm(x, w), "token", tiled=True),
            ),
            "SiLU·mul": (
                lambda b=both, k=k: ops.activation_quantize(b[:, :k], "silu_mul", b[:, k:], tiled=True),
                lambda b=both, gate=gate: ops.quantize(gate(b), "token", tiled=True),
            ),
        }
        for name, (one, two) in rows.items():
            together, apart = timed(one, calls), timed(two, calls)
            print(f"| {name} | {m}x{k} | {together:.2f} µs | {apart:.2f} µs | {apart / together:.2f} |")


def seed() -> None:
    """Time the loop of 1,000 calls of a compiled quantized linear: run-time against single-level scaling."""
    print("\n| Linear 64→256, batch 128, 1,000 calls, fullgraph | a call | over single-level |\n|---|---|---|")
    x = torch.randn(128, 64, device="cuda", dtype=BF16)
    compiled = {}
    for name in ("w4a4-single-level", "w4a4-dynamic-token", "w4a4-dynamic"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 256)).to("cuda", BF16)
        compiled[name] = torch.compile(quantize_module(model, RECIPES[name]).module, fullgraph=True)
    times: dict[str, list[float]] = {name: [] for name in compiled}
    with torch.inference_mode():
        for turn in range(41):  # in turns and in changing order, so that drifts of the machine meet all
            names = list(compiled)
            for name in names[turn % 3 :] + names[: turn % 3]:
                model = compiled[name]
                model(x)
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(1000):
                    model(x)
                torch.cuda.synchronize()
                times[name].append((time.perf_counter() - start) * 1e3)
    base = statistics.median(times["w4a4-single-level"])
    for name, each in times.items():
        print(f"| {name} | {statistics.median(each):.2f} µs | {statistics.median(each) / base:.3f} |")


if __name__ == "__main__":
    sys.exit(main())
