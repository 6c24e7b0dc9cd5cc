"""Peak memory of `nvfp4-trt export` for a model and one four times as deep, of BERT-base's width.

Each export is one whole process, whose high-water mark the kernel tells. The folders, as `save_pretrained` writes
them, are made first and deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from children import measure
from rich.console import Console
from rich.table import Table

WRITER = Path(__file__).parent / "peers" / "random_bert.py"
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def peak(layers: int, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write a folder of that depth, export it `--runs` times and return the medians."""
    folder, output = work / f"bert-{layers}", work / f"{layers}.onnx"
    writer = [sys.executable, WRITER, folder, "--dtype", options.dtype, "--layers", str(layers)]
    measure(writer, env=QUIET)
    inputs = ["--input", "input_ids:int64:2x128:0..30521", "--input", "attention_mask:int64:2x128:1..1"]
    command = [sys.executable, "-m", "nvfp4_trt.cli", "export", folder, "-o", output, *inputs, "--json"]
    command += ["--recipe", options.recipe, "--dynamic", "batch,sequence"]
    runs = [measure(command, env=QUIET) for _ in range(options.runs)]
    return {
        "layers": layers,
        "weights_bytes": (folder / "model.safetensors").stat().st_size,
        "onnx_bytes": output.stat().st_size,
        "peak_bytes": statistics.median(run.peak_bytes for run in runs),
        "wall_s": statistics.median(run.wall_s for run in runs),
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, nargs=2, default=(12, 48))
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--recipe", default="w4a4-dynamic-token")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="export-memory-") as work:
        rows = [peak(layers, options, Path(work)) for layers in options.layers]
    ratio = rows[1]["peak_bytes"] / rows[0]["peak_bytes"]
    if options.json:
        print(json.dumps({"rows": rows, "ratio": ratio}))
        return
    table = Table(title=f"export of {options.dtype} folders, {options.recipe}, medians of {options.runs} run(s)")
    for heading in ("layers", "weights MB", "ONNX MB", "peak MB", "wall s"):
        table.add_column(heading, justify="right")
    for row in rows:
        sizes = (f"{row[key] / 1e6:.0f}" for key in ("weights_bytes", "onnx_bytes", "peak_bytes"))
        table.add_row(str(row["layers"]), *sizes, f"{row['wall_s']:.1f}")
    console = Console(width=max(Console().width, 100))
    console.print(table)
    console.print(f"peak memory, deep over shallow: {ratio:.3f} (goal: at most 1.1)")


if __name__ == "__main__":
    main()
