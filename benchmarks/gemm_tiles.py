"""Fill the table that chooses the GEMM's tile: measured on the GPU at hand, or estimated for one that is not.

    python benchmarks/gemm_tiles.py PACK                # measures every tile and split, rewrites this SM's rows
    python benchmarks/gemm_tiles.py --estimate 120      # rewrites the rows of sm_120 by the model below

Both take the fastest of all tiles x splits for each of a grid of shapes, and write a row for each cell of the
grid (the largest M, N and K that it stands for), joined where neighbours agree. Measured: medians of CUDA-graph
replays, each launch on another copy of the weight, so that it comes from memory and not from L2. The estimate is
a roofline: waves of blocks, each step of a block the slowest of its MMAs, its loads from L2 and the instructions
that its warps issue (counted by gemm_sass.py), and all of it never faster than memory. It knows no latencies, so
its rows are a start, and say so in `source`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import statistics
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

from nvfp4_trt.atomic import output_file
from nvfp4_trt.kernels.tiles import COUNTERS, gemm_workspace

TABLE = Path(__file__).resolve().parent.parent / "plugins" / "kernels" / "gemm_tiles.json"
TILES = ("16x128x256", "32x128x256", "64x128x256", "128x128x128", "128x128x256")
# The largest of each class of shapes; the last class of each goes on for ever.
MS = (16, 32, 64, 128, 256, 1024, 4096)
NS = (1024, 4096, 16384)
KS = (1024, 4096, 16384)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
DTYPE = "bf16"
WEIGHT_BYTES = 256 << 20  # of copies of the weight: several times any L2
REPEATS = 20


class Gpu(NamedTuple):
    """What the estimate takes from a data sheet, each for one multiprocessor and one clock."""

    name: str
    multiprocessors: int
    flops: int  # dense FP4
    memory_bytes: float
    tma: bool = False  # whether the tiles of 128 rows are loaded by TMA


# Dense FP4 and memory bandwidth over multiprocessors and boost clock, rounded.
GPUS = {
    90: Gpu("H100: 132 SMs, FP4 emulated in bf16 at 0.99 PFLOP/s, 3.35 TB/s, 1.75 GHz", 132, 4096, 14.5),
    100: Gpu("B200: 148 SMs, 9 PFLOP/s, 8 TB/s, 1.85 GHz", 148, 32768, 29.0, tma=True),
    103: Gpu("B300: 148 SMs, 14 PFLOP/s, 8 TB/s, 1.9 GHz", 148, 49152, 28.0, tma=True),
    120: Gpu("RTX 5090: 170 SMs, 1.7 PFLOP/s, 1.8 TB/s, 2.4 GHz", 170, 4096, 4.4),
    121: Gpu("GB10: 48 SMs, 0.5 PFLOP/s, 0.27 TB/s, 2.4 GHz", 48, 4096, 2.3),
}
# Clocks, of the order that is known of such kernels; the choice hardly depends on them.
START_CLOCKS = 2000
STEP_CLOCKS = 40
REDUCE_CLOCKS = 1500
L2_BYTES = 24  # a clock and multiprocessor
# Instructions that a block issues in a step, of which a multiprocessor takes four a clock.
SLOTS = dict(zip(TILES, (690, 680, 720, 800, 1120), strict=True))
TMA_SLOTS = SLOTS | {"128x128x128": 105, "128x128x256": 127}


def choices(m: int, n: int, k: int) -> list[tuple[str, int]]:
    """Return the tiles and splits that a shape can use."""
    found = []
    for tile, split in product(TILES, SPLITS):
        block_m, block_n, block_k = map(int, tile.split("x"))
        blocks = math.ceil(m / block_m) * math.ceil(n / block_n)
        steps = math.ceil(k / block_k)
        if block_m > 2 * m and block_m > 16:
            continue
        if split == 1 or (2 * split <= steps and blocks <= COUNTERS and blocks * split <= 4096):
            found.append((tile, split))
    return found


def estimate(gpu: Gpu, tile: str, split: int, m: int, n: int, k: int) -> float:
    """Return clocks, by the model in this module's docstring."""
    block_m, block_n, block_k = map(int, tile.split("x"))
    blocks = math.ceil(m / block_m) * math.ceil(n / block_n) * split
    steps = math.ceil(math.ceil(k / block_k) / split)
    mma = 2 * block_m * block_n * block_k / gpu.flops
    # Half a byte for each code and a sixteenth of a byte for its share of a scale.
    load = (block_m + block_n) * block_k * 0.5625 / L2_BYTES
    issue = (TMA_SLOTS if gpu.tma else SLOTS)[tile] / 4
    waves = math.ceil(blocks / gpu.multiprocessors)
    clocks = waves * (START_CLOCKS + steps * (max(mma, load, issue) + STEP_CLOCKS))
    bandwidth = gpu.memory_bytes * gpu.multiprocessors
    clocks = max(clocks, START_CLOCKS + ((m + n) * k * 0.5625 + 2 * m * n) / bandwidth)
    return clocks + (REDUCE_CLOCKS + 8 * split * m * n / bandwidth if split > 1 else 0)


def join(cells: dict[tuple[int, int, int], tuple[str, int]]) -> list[dict[str, Any]]:
    """Return the table's rows, in the order in which they are tried, without those that change nothing."""
    rows: list[dict[str, Any]] = []
    for m in MS:
        by_n = [_by_k(cells, m, n) for n in NS]
        limits: list[int | None] = list(NS[:-1])
        for here, after, limit in zip(by_n, [*by_n[1:], None], [*limits, None], strict=True):
            if here != after:
                rows += [{"max_m": None if m == MS[-1] else m, "max_n": limit} | row for row in here]
    return rows


def _by_k(cells: dict[tuple[int, int, int], tuple[str, int]], m: int, n: int) -> list[dict[str, Any]]:
    rows = []
    for k, after in pairwise((*KS, 0)):
        tile, split = cells[m, n, k]
        if after and cells[m, n, after] == (tile, split):
            continue
        rows.append({"max_k": k if after else None, "tile": tile, "split_k": split})
    return rows


def measure(pack_folder: Path) -> tuple[int, str, dict[tuple[int, int, int], tuple[str, int]]]:
    """Time every choice for every shape; return the SM, the GPU's name and the fastest choices."""
    import torch

    from nvfp4_trt.kernels.driver import device_limits
    from nvfp4_trt.kernels.pack import load_pack

    torch.cuda.init()
    torch.empty(1, device="cuda")  # makes the context the current one
    sm, _ = device_limits(torch.cuda.current_device())
    pack, best = load_pack(pack_folder), {}
    for m, n, k in product(MS, NS, KS):
        timed = {choice: _time(pack, sm, *choice, m, n, k) for choice in choices(m, n, k)}
        best[m, n, k] = min(timed, key=timed.__getitem__)
        tile, split = best[m, n, k]
        print(f"{m:5} {n:5} {k:5}  {tile:12} split {split:2}  {timed[tile, split]:9.2f} us", flush=True)
    return sm, torch.cuda.get_device_name(), best


def _time(pack: Any, sm: int, tile: str, split: int, m: int, n: int, k: int) -> float:
    """Return microseconds for one launch."""
    import torch

    from nvfp4_trt.kernels.driver import Library
    from nvfp4_trt.kernels.launch import gemm_launch

    file = pack.file("gemm", DTYPE, sm, tile)
    shared = file.tile.shared_bytes
    kernel = Library(pack.read(file), file.file).kernel(file.entries[0].name, torch.cuda.current_device())
    copies = max(1, min(64, WEIGHT_BYTES // (n * k // 2)))

    def bytes_of(*shape: int) -> torch.Tensor:
        return torch.randint(0x20, 0x50, shape, dtype=torch.uint8, device="cuda")

    def scales_of(rows: int) -> torch.Tensor:
        return bytes_of(math.ceil(rows / 128) * math.ceil(k / 64) * 512)

    a, a_scales, b_scales = bytes_of(m, k // 2), scales_of(m), scales_of(n)
    weights = [bytes_of(n, k // 2) for _ in range(copies)]
    one = torch.ones(1, device="cuda")
    out = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    room = gemm_workspace(file.tile, m, n, split)
    workspace = torch.empty(max(room.bytes, 16), dtype=torch.uint8, device="cuda")
    scratch = workspace.data_ptr() + room.scratch if room.bytes > room.scratch else 0
    counters = torch.zeros(COUNTERS, dtype=torch.int32, device="cuda")
    grid, block = gemm_launch(file.tile, m, n, split)

    def launch(weight: torch.Tensor) -> None:
        tensors = (a, weight, a_scales, b_scales, one, one, out, out, workspace, counters)
        pointers = [ctypes.c_void_p(each.data_ptr()) for each in tensors]
        sizes = [ctypes.c_int32(each) for each in (m, n, k, 0, 0, 0, split)]
        stream = torch.cuda.current_stream().cuda_stream
        own = (ctypes.c_void_p(scratch), ctypes.c_void_p(0))  # the compiler's
        kernel.launch(grid, block, shared, stream, [*pointers, *sizes, *own])

    for weight in weights:
        launch(weight)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for weight in weights:
            launch(weight)
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / copies)
        if sum(times) * copies > 2e5:  # a fifth of a second is enough of one choice
            break
    return statistics.median(times)


def rewrite(sm: int, source: str, rows: list[dict[str, Any]], path: Path) -> None:
    """Put one architecture's rows into the table."""
    table = json.loads(path.read_text()) if path.exists() else {}
    table[f"sm_{sm}"] = {"source": source, "rows": rows}
    ordered = {name: table[name] for name in sorted(table, key=lambda name: int(name.removeprefix("sm_")))}
    with output_file(path) as scratch:
        scratch.write_text(_as_text(ordered))


def _as_text(table: dict[str, Any]) -> str:
    """Return JSON with a row on each line."""
    parts = []
    for name, each in table.items():
        rows = ",\n".join(f"      {json.dumps(row)}" for row in each["rows"])
        parts.append(
            f'  "{name}": {{\n    "source": {json.dumps(each["source"])},\n    "rows": [\n{rows}\n    ]\n  }}'
        )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("pack", type=Path, nargs="?", help="a kernel pack, to be measured on the GPU at hand")
    parser.add_argument("--estimate", type=int, choices=sorted(GPUS), help="the architecture to estimate instead")
    parser.add_argument("--table", type=Path, default=TABLE, help="the file to rewrite")
    given = parser.parse_args()
    if (given.pack is None) == (given.estimate is None):
        parser.error("name a kernel pack, or --estimate an architecture")
    if given.estimate is None:
        sm, name, best = measure(given.pack)
        rewrite(sm, f"measured on an {name} by benchmarks/gemm_tiles.py", join(best), given.table)
        return
    gpu = GPUS[given.estimate]
    best = {
        shape: min(choices(*shape), key=lambda choice: estimate(gpu, *choice, *shape))
        for shape in product(MS, NS, KS)
    }
    source = f"estimated by benchmarks/gemm_tiles.py, not measured ({gpu.name})"
    rewrite(given.estimate, source, join(best), given.table)


if __name__ == "__main__":
    main()
