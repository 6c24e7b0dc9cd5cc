"""Pack a safetensors file of a billion parameters: `nvfp4-trt pack` against torchao's eager NVFP4.

Each side is one whole process from start to written file; sides alternate. The file is made first (bfloat16,
random) and deleted at the end. Memory is the kernel's own high-water mark of the process.
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
from typing import Any

from children import measure
from rich.console import Console
from rich.table import Table

PEER = Path(__file__).parent / "peers" / "torchao_pack.py"
SIDES = ("nvfp4-trt", "torchao")
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
    """Write the file, run the sides in turn, compare what they wrote."""
    source = work / "in.safetensors"
    measure([sys.executable, "-c", WRITE, source, str(options.tensors), *map(str, options.shape)])
    outputs = {side: work / f"{side}.safetensors" for side in SIDES}
    rule = ("--rule", "torchao")  # the peer's own floor of block scales, so that the bytes can be compared
    commands: dict[str, list[str | Path]] = {
        SIDES[0]: [sys.executable, "-m", "nvfp4_trt.cli", "pack", source, "-o", outputs[SIDES[0]], *rule],
        SIDES[1]: [sys.executable, PEER, source, "-o", outputs[SIDES[1]]],
    }
    found: dict[str, list[Any]] = {side: [] for side in SIDES}
    for turn in range(options.runs):
        for side in SIDES if turn % 2 == 0 else reversed(SIDES):
            found[side].append(measure(commands[side]))
            print(f"{side}: {found[side][-1].wall_s:.1f} s", file=sys.stderr)
    compared = [sys.executable, "-c", COMPARE, *outputs.values()]
    told = subprocess.run([str(part) for part in compared], check=True, capture_output=True, text=True).stdout
    rows = {
        side: {
            key: statistics.median(getattr(run, key) for run in found[side])
            for key in ("wall_s", "cpu_s", "peak_bytes")
        }
        for side in SIDES
    }
    n, k = options.shape
    return {
        "parameters": options.tensors * n * k,
        "sides": rows,
        "speedup": rows[SIDES[1]]["wall_s"] / rows[SIDES[0]]["wall_s"],
        "peak_bound_bytes": n * k * 2 * 4 + GIB,
        "equal_bytes": float(told),
    }


def show(result: dict[str, Any], runs: int) -> None:
    """Print the table."""
    title = f"packing {result['parameters'] / 1e9:.2f}e9 bfloat16 parameters, medians of {runs} run(s)"
    table = Table("side", title=f"{title}, {os.cpu_count()} CPUs")
    for heading in ("wall s", "CPU s", "peak MiB"):
        table.add_column(heading, justify="right")
    for side, row in result["sides"].items():
        table.add_row(side, f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", f"{row['peak_bytes'] / 2**20:.0f}")
    console = Console(width=max(Console().width, 100))
    console.print(table)
    console.print(
        f"{result['speedup']:.2f} times as fast (goal 3); peak memory at most largest tensor x 4 + 1 GiB = "
        f"{result['peak_bound_bytes'] / 2**20:.0f} MiB; equal bytes {result['equal_bytes']:.2%}"
    )


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tensors", type=int, default=32)
    parser.add_argument("--shape", type=int, nargs=2, default=(4096, 8192), metavar=("N", "K"))
    parser.add_argument("--folder", type=Path, help="where the files go, 5 GB; default: the system's own")
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
