"""Export a BERT-base-shaped model with random weights: this project against ModelOpt's ONNX path.

Each side is one whole process from start to exit, on the same folder, in the same dtype; sides alternate.
Printed: wall time, peak memory, file bytes, and this project's share of each of the peer's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from children import last_json, measure
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PEERS = HERE / "peers"
OURS, PEER = "nvfp4-trt", "ModelOpt"
DTYPES = ("float32", "float16")
COMPARED = ("wall_s", "cpu_s", "peak_bytes", "file_bytes")
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Run:
    """What one export took. `steps` holds the seconds that the peer's script reports for its own steps."""

    side: str
    dtype: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    file_bytes: int
    steps: dict[str, float]


def peer_python(venv: Path) -> Path:
    """Return the interpreter of the peer's virtual environment, which is made first if missing."""
    python = venv / "bin" / "python"
    if not venv.exists():
        print(f"making {venv}: about 2.5 GB, several minutes", file=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "-q"]
        pins = PEERS / "modelopt-requirements.txt"
        torch_pin = next(line for line in pins.read_text().splitlines() if line.startswith("torch=="))
        try:
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            subprocess.run([*pip, torch_pin], check=True)
            subprocess.run([*pip, "-r", str(pins)], check=True)
        except subprocess.CalledProcessError as error:
            shutil.rmtree(venv, ignore_errors=True)
            sys.exit(
                f"could not make {venv}: {error}\nSee pip's message above; a package index must be reachable."
            )
    probe = [str(python), "-c", "import importlib.metadata as m; print(m.version('nvidia-modelopt'))"]
    if not python.exists() or subprocess.run(probe, check=False, capture_output=True).returncode:
        sys.exit(f"{venv} has no nvidia-modelopt: remove that folder and run this again, or name another one")
    return python


def our_command(folder: Path, output: Path, dtype: str) -> list[str | Path]:
    """Return the command line of this project's side."""
    inputs = ["--input", "input_ids:int64:2x128:0..30521", "--input", "attention_mask:int64:2x128:1..1"]
    recipe = ["--recipe", "w4a4-dynamic-token", "--dynamic", "batch,sequence", "--dtype", dtype]
    return [sys.executable, "-m", "nvfp4_trt.cli", "export", folder, "-o", output, *recipe, *inputs, "--json"]


def one_run(side: str, dtype: str, folder: Path, work: Path, python: Path) -> Run:
    """Export once into an emptied folder under `work`, and measure it."""
    output = work / side / dtype / "model.onnx"
    shutil.rmtree(output.parent, ignore_errors=True)
    output.parent.mkdir(parents=True)
    peer: list[str | Path] = [python, PEERS / "modelopt_export.py", folder, "-o", output, "--dtype", dtype]
    found = measure(our_command(folder, output, dtype) if side == OURS else peer, env=QUIET)
    steps = last_json(found.stdout) if side == PEER else {}
    size = sum(path.stat().st_size for path in output.parent.iterdir() if not path.name.endswith(".json"))
    seconds = {key: value for key, value in steps.items() if key.endswith("_s")}
    return Run(side, dtype, found.wall_s, found.cpu_s, found.peak_bytes, size, seconds)


def run_all(options: argparse.Namespace, work: Path) -> list[Run]:
    """Write the model, warm the disk's cache with both sides' imports, then run the sides in turn."""
    python = peer_python(options.peer_venv)
    runs = []
    for interpreter in (sys.executable, python):
        measure([interpreter, "-c", "import torch, transformers, onnx"], env=QUIET)
    for dtype in options.dtype:
        folder = work / f"bert-{dtype}"
        writer = [sys.executable, PEERS / "random_bert.py", folder, "--dtype", dtype]
        measure([*writer, "--layers", str(options.layers)], env=QUIET)
        for turn in range(options.runs):
            for side in (OURS, PEER) if turn % 2 == 0 else (PEER, OURS):
                runs.append(one_run(side, dtype, folder, work, python))
                print(f"{side} {dtype}: {runs[-1].wall_s:.1f} s", file=sys.stderr)
    return runs


def fp4_weights(path: Path) -> int:
    """Count the weights of an ONNX file that are stored as FP4, by either side's way of storing them.

    ModelOpt stores FLOAT4E2M1 initializers; this project stores packed bytes that an `nvfp4` node reads.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    packed = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.UINT8}
    read = {node.input[0] for node in graph.node if node.domain == "nvfp4"}
    fp4 = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT4E2M1]
    return len(fp4) + len(packed & read)


def summary(runs: list[Run], work: Path) -> list[dict[str, Any]]:
    """Return the medians of each dtype and side, and the ratios of ours to the peer's."""
    rows = []
    for dtype in dict.fromkeys(run.dtype for run in runs):
        row: dict[str, Any] = {"dtype": dtype}
        for side in (OURS, PEER):
            same = [run for run in runs if (run.dtype, run.side) == (dtype, side)]
            row[side] = {key: statistics.median(getattr(run, key) for run in same) for key in COMPARED}
            row[side]["fp4_weights"] = fp4_weights(work / side / dtype / "model.onnx")
        row["ratio"] = {key: row[OURS][key] / row[PEER][key] for key in COMPARED}
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]], runs: int) -> None:
    """Print the table."""
    table = Table(title=f"export, medians of {runs} run(s), {os.cpu_count()} CPUs")
    for heading in ("dtype", "side", "wall s", "CPU s", "peak MB", "file MB", "FP4 weights"):
        table.add_column(heading, justify="left" if heading in {"dtype", "side"} else "right")
    for row in rows:
        for side in (OURS, PEER):
            m = row[side]
            sizes = (f"{m['peak_bytes'] / 1e6:.0f}", f"{m['file_bytes'] / 1e6:.1f}", str(m["fp4_weights"]))
            table.add_row(row["dtype"], side, f"{m['wall_s']:.1f}", f"{m['cpu_s']:.1f}", *sizes)
        ratios = (f"{row['ratio'][key]:.2f}" for key in COMPARED)
        table.add_row(row["dtype"], "ours / theirs", *ratios, "", style="bold", end_section=True)
    Console(width=max(Console().width, 100)).print(table)


def main() -> None:
    """Read the command line, run both sides, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-venv", type=Path, default=Path(".venv-modelopt"), help="is made if missing")
    parser.add_argument("--runs", type=int, default=3, help="of each side and dtype")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="may be repeated; default: both")
    parser.add_argument("--layers", type=int, default=12, help="12 is BERT-base")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    options.dtype = options.dtype or list(DTYPES)
    with tempfile.TemporaryDirectory(prefix="export-vs-modelopt-") as work:
        runs = run_all(options, Path(work))
        rows = summary(runs, Path(work))
    if options.json:
        print(json.dumps({"summary": rows, "runs": [asdict(run) for run in runs]}, indent=2))
    else:
        show(rows, options.runs)


if __name__ == "__main__":
    main()
