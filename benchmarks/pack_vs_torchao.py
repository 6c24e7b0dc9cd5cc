"""Pack weights on the CPU: `nvfp4_trt.format.pack_weight` against torchao's eager NVFP4.

Both compute the per-tensor scale from the weight's largest magnitude, the e4m3 block scales and the packed
e2m1 codes. The sides alternate; each figure is the median of `--runs` after one unmeasured call. The ratio
of the two sides' best runs stands beside that of the medians: on a machine that others use, where threads
wait for a core, it is the steadier one.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from nvfp4_trt.format import pack_weight

if TYPE_CHECKING:
    from collections.abc import Callable

# [N, K] of every distinct linear.
SHAPES = {
    "BERT-base q/k/v/o": (768, 768),
    "BERT-base up": (3072, 768),
    "BERT-base down": (768, 3072),
    "Llama-8B k/v": (1024, 4096),
    "Llama-8B q/o": (4096, 4096),
    "Llama-8B gate/up": (14336, 4096),
    "Llama-8B down": (4096, 14336),
}
DTYPES = (torch.float32, torch.bfloat16)


def torchao_packer() -> Callable[[torch.Tensor], Any]:
    """Return torchao's eager path for a two-level weight, imported quietly."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    def pack(weight: torch.Tensor) -> Any:
        scale = per_tensor_amax_to_scale(torch.amax(torch.abs(weight)))
        return NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=scale)

    return pack


def seconds(call: Callable[[torch.Tensor], Any], weight: torch.Tensor) -> float:
    """Return the wall seconds of one call."""
    began = time.perf_counter()
    call(weight)
    return time.perf_counter() - began


def agreement(ours: Any, theirs: Any) -> float:
    """Return the share of packed bytes that are equal."""
    return float((ours[0].view(torch.uint8) == theirs.qdata.view(torch.uint8)).double().mean())


def compare(name: str, dtype: torch.dtype, runs: int) -> dict[str, Any]:
    """Measure both sides on one shape and dtype."""
    torch.manual_seed(0)
    weight = (torch.randn(SHAPES[name]) * 0.02).to(dtype)
    peer = torchao_packer()
    equal = agreement(pack_weight(weight), peer(weight))
    turns = [(seconds(pack_weight, weight), seconds(peer, weight)) for _ in range(runs)]
    ours, theirs = zip(*turns, strict=True)
    ours_s, peer_s = statistics.median(ours), statistics.median(theirs)
    return {
        "name": name,
        "shape": SHAPES[name],
        "dtype": str(dtype).removeprefix("torch."),
        "ours_s": ours_s,
        "torchao_s": peer_s,
        "ratio": ours_s / peer_s,
        "ours_best_s": min(ours),
        "torchao_best_s": min(theirs),
        "best_ratio": min(ours) / min(theirs),
        "equal_bytes": equal,
    }


def overall(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of the total times, of the medians and of the best runs."""
    total = {
        key: sum(row[key] for row in rows) for key in ("ours_s", "torchao_s", "ours_best_s", "torchao_best_s")
    }
    return {
        "ratio": total["ours_s"] / total["torchao_s"],
        "best_ratio": total["ours_best_s"] / total["torchao_best_s"],
    }


def show(rows: list[dict[str, Any]], runs: int) -> None:
    """Print the table."""
    title = f"packing, medians of {runs} runs, {torch.get_num_threads()} thread(s)"
    table = Table("linear", "[N, K]", "dtype", title=title)
    for heading in ("nvfp4-trt ms", "torchao ms", "ours / theirs", "best / best", "equal bytes"):
        table.add_column(heading, justify="right")
    for row in rows:
        times = (f"{row['ours_s'] * 1e3:.1f}", f"{row['torchao_s'] * 1e3:.1f}")
        ratios = (f"{row['ratio']:.2f}", f"{row['best_ratio']:.2f}")
        shape = "{} x {}".format(*row["shape"])
        table.add_row(row["name"], shape, row["dtype"], *times, *ratios, f"{row['equal_bytes']:.2%}")
    table.add_section()
    totals = tuple(f"{ratio:.2f}" for ratio in overall(rows).values())
    table.add_row("all, by total time", "", "", "", "", *totals, "", style="bold")
    Console(width=max(Console().width, 120)).print(table)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, help="torch's threads; default: one a core")
    parser.add_argument("--only", default="", help="only linears whose name holds this text")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    names = [name for name in SHAPES if options.only in name]
    if not names:
        parser.error(f"no linear's name holds {options.only!r}: {', '.join(SHAPES)}")
    rows = [compare(name, dtype, options.runs) for name in names for dtype in DTYPES]
    if options.json:
        print(json.dumps({"rows": rows, **overall(rows)}))
    else:
        show(rows, options.runs)


if __name__ == "__main__":
    main()
