"""Pack a safetensors file of a billion parameters: `nvfp4-trt pack` against torchao's eager NVFP4.

Each side is one whole process from start to written file; sides alternate. The file is made first (bfloat16,
random) and deleted at the end. Memory is the kernel's own high-water mark of the process. The weight methods that
look at no inputs are measured in the same way, on the same file, in turns of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from children import measure
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PEER = Path(__file__).parent / "peers" / "torchao_pack.py"
SIDES = ("nvfp4-trt", "torchao")
METHODS = ("max", "mse", "four-over-six")
GIB = 2**30

WRITE = """
import sys, torch
from safetensors.torch import save_file
torch.manual_seed(0)
count, n, k = map(int, sys.argv[2:])
save_file({f"layers.{i}.weight": torch.randn(n, k).mul_(0.02).bfloat16() for i in range(count)}, sys.argv[1])
"""

COMPARE = """
import sys, torch
from safetensors import safe_open
equal = total = 0
with safe_open(sys.argv[1], "pt") as ours, safe_open(sys.argv[2], "pt") as theirs:
    for name in theirs.keys():
        if name.endswith("_packed"):
            a, b = ours.get_tensor(name), theirs.get_tensor(name).view(torch.uint8)
            equal, total = equal + int((a == b).sum()), total + a.numel()
print(equal / total)
"""


def run_all(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write the file, run the sides in turn, then the methods; compare what the sides wrote."""
    source = work / "in.safetensors"
    measure([sys.executable, "-c", WRITE, source, str(options.tensors), *map(str, options.shape)])
    outputs = {side: work / f"{side}.safetensors" for side in SIDES}
    ours: list[str | Path] = [sys.executable, "-m", "nvfp4_trt.cli", "pack", source, "-o", outputs[SIDES[0]]]
    n, k = options.shape
    result: dict[str, Any] = {
        "parameters": options.tensors * n * k,
        "peak_bound_bytes": n * k * 2 * 4 + GIB,
        "methods": in_turns({method: [*ours, "--method", method] for method in METHODS}, options.runs),
    }
    if options.methods:
        return result
    # The peer's own floor of block scales, so that the bytes can be compared.
    theirs: list[str | Path] = [sys.executable, PEER, source, "-o", outputs[SIDES[1]]]
    rows = in_turns({SIDES[0]: [*ours, "--rule", "torchao"], SIDES[1]: theirs}, options.runs)
    compared = [str(part) for part in (sys.executable, "-c", COMPARE, *outputs.values())]
    told = subprocess.run(compared, check=True, capture_output=True, text=True).stdout
    speedup = rows[SIDES[1]]["wall_s"] / rows[SIDES[0]]["wall_s"]
    return {**result, "sides": rows, "speedup": speedup, "equal_bytes": float(told)}


def in_turns(commands: Mapping[str, Sequence[str | Path]], runs: int) -> dict[str, dict[str, float]]:
    """Run each command so many times, in an order that turns round; return the medians."""
    found: dict[str, list[Any]] = {name: [] for name in commands}
    for turn in range(runs):
        for name in commands if turn % 2 == 0 else reversed(commands):
            found[name].append(measure(commands[name]))
            print(f"{name}: {found[name][-1].wall_s:.1f} s", file=sys.stderr)
    return {
        name: {
            key: statistics.median(getattr(run, key) for run in ran) for key in ("wall_s", "cpu_s", "peak_bytes")
        }
        for name, ran in found.items()
    }


def show(result: dict[str, Any], runs: int) -> None:
    """Print the tables."""
    console = Console(width=max(Console().width, 100))
    what = f"{result['parameters'] / 1e9:.2f}e9 bfloat16 parameters, medians of {runs} run(s)"
    bound = f"{result['peak_bound_bytes'] / 2**20:.0f} MiB"
    if "sides" in result:
        console.print(table_of("side", result["sides"], f"packing {what}"))
        console.print(
            f"{result['speedup']:.2f} times as fast (goal 3); peak memory at most largest tensor x 4 + 1 GiB = "
            f"{bound}; equal bytes {result['equal_bytes']:.2%}"
        )
    console.print(table_of("method", result["methods"], f"nvfp4-trt pack --method, {what}"))
    usual = result["methods"]["max"]["wall_s"]
    ratios = (f"{name} {row['wall_s'] / usual:.2f}" for name, row in result["methods"].items())
    console.print(f"times as long as max: {', '.join(ratios)} (goal 4); peak memory at most {bound}")


def table_of(first: str, rows: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Return a table with a row for each side or method."""
    table = Table(first, title=f"{title}, {os.cpu_count()} CPUs")
    for heading in ("wall s", "CPU s", "peak MiB"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(name, f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", f"{row['peak_bytes'] / 2**20:.0f}")
    return table


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tensors", type=int, default=32)
    parser.add_argument("--shape", type=int, nargs=2, default=(4096, 8192), metavar=("N", "K"))
    parser.add_argument("--folder", type=Path, help="where the files go, 5 GB; default: the system's own")
    parser.add_argument(
        "--methods", action="store_true", help="measure the weight methods alone, without the peer"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pack-file-", dir=options.folder) as work:
        result = run_all(options, Path(work))
    if options.json:
        print(json.dumps(result))
    else:
        show(result, options.runs)


if __name__ == "__main__":
    main()
