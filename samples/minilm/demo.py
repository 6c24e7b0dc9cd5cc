"""A sentence encoder through every recipe: export, build for sm_120, audit, compare, and one summary.

Run it with `make demo`, or `python -m samples.minilm.demo` in an environment that has the package. No GPU is
needed: the engines are built and audited here, not run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

import nvfp4_trt
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY
from nvfp4_trt.loading import load_model
from nvfp4_trt.recipe import DEFAULT_RECIPE, RECIPES
from samples.minilm import inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from nvfp4_trt.building import EngineArtifact
    from nvfp4_trt.comparison import OutputMetrics

    Runner = Callable[[dict[str, Tensor]], Tensor]

TARGET = "sm_120"
DIMS = ("batch=1:8:32", "sequence=1:128:512")
OUTPUT = "last_hidden_state"
ORDER = (DEFAULT_RECIPE, *(name for name in RECIPES if name != DEFAULT_RECIPE))
_SHOWN_LAYER = "encoder.layer.0.intermediate.dense"
# A scale that is computed in a row of its own has a name as long as the row fuses nodes: show its start.
_ROW_WIDTH = 96


@dataclass(frozen=True)
class Outcome:
    """What one recipe came to."""

    recipe: str
    onnx: Path
    engine: EngineArtifact
    output: OutputMetrics
    """Of the encoder's last hidden state, padding included."""
    embedding_sqnr_db: float
    """Of the pooled, normalized sentence embeddings."""

    @property
    def kind(self) -> str:
        """What the recipe asks of a layer: an FP4 GEMM, or an FP4 weight only."""
        return WEIGHT_ONLY if self.engine.audit.counts(WEIGHT_ONLY)[0] else NVFP4


def run_recipe(recipe: str, folder: Path, expected: np.ndarray) -> Outcome:
    """Take the encoder through one recipe.

    Args:
        recipe: one of the built-in names.
        folder: where the ONNX file, the lowered file, the engine and its record go.
        expected: embeddings of the test sentences by the float model, fp32 `[sentences, 384]`.

    Raises:
        Fp4LostError: a GEMM of the engine is not FP4.
        Nvfp4Error: any other step failed.
    """
    onnx, engine = folder / f"{recipe}.onnx", folder / f"{recipe}.engine"
    nvfp4_trt.export(
        inputs.model_folder(), onnx, recipe=recipe, inputs=inputs.calibration(), dynamic=("batch,sequence",)
    )
    # build() audits, and leaves no engine behind where a GEMM is not FP4.
    built = nvfp4_trt.build(onnx, engine, targets=(TARGET,), dims=DIMS, lowered=folder / f"{recipe}.trt.onnx")
    compared = nvfp4_trt.compare(onnx, inputs.model_folder(), inputs=inputs.test())
    output = next(metrics for metrics in compared.outputs if metrics.name == OUTPUT)
    got = embeddings(onnx_runner(onnx))
    return Outcome(recipe, onnx, built, output, sqnr_db(expected, got))


def embeddings(run: Runner) -> np.ndarray:
    """Embed the test sentences: mean of the hidden states under the mask, normalized; `[sentences, 384]`."""
    pooled = []
    for batch in inputs.test():
        hidden, mask = run(batch), batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        pooled.append(torch.nn.functional.normalize(mean, dim=-1))
    return torch.cat(pooled).numpy()


def torch_runner() -> Runner:
    """Return the float encoder: a batch to its last hidden state, fp32 `[batch, sequence, 384]`."""
    model = load_model(inputs.model_folder()).module

    def run(batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            hidden: Tensor = model(**batch).last_hidden_state
        return hidden

    return run


def onnx_runner(path: Path) -> Runner:
    """Return an exported file on ONNX Runtime, in the same form as `torch_runner`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(batch: dict[str, Tensor]) -> Tensor:
        fed = {name: tensor.numpy() for name, tensor in batch.items()}
        return torch.from_numpy(session.run([OUTPUT], fed)[0])

    return run


def sqnr_db(expected: np.ndarray, got: np.ndarray) -> float:
    """Return the signal to quantization noise ratio, 10·log10(Σ expected² / Σ (expected - got)²), in dB."""
    signal = np.square(expected, dtype=np.float64).sum()
    noise = np.square(expected - got, dtype=np.float64).sum()
    return float(10 * np.log10(signal / noise))


def summary(outcomes: Iterable[Outcome]) -> Table:
    """Return the table of recipes."""
    title = f"all-MiniLM-L6-v2 for {TARGET}, dynamic batch and sequence; default: {DEFAULT_RECIPE}"
    table = Table(title=title)
    table.add_column("recipe", no_wrap=True)
    columns = "FP4 linears,kernels,engine,FP4 weights,/ floor,SQNR,cosine,SQNR embedding"
    for column in columns.split(","):
        table.add_column(column, justify="right")
    for outcome in outcomes:
        audit, record = outcome.engine.audit, outcome.engine.record
        asked, realized = audit.counts(outcome.kind)
        table.add_row(
            outcome.recipe,
            f"{realized}/{asked}" + (" weights" if outcome.kind == WEIGHT_ONLY else " GEMMs"),
            str(audit.kernels),
            f"{record.engine_bytes / 1e6:.1f} MB",
            f"{audit.weight_bytes / 1e6:.2f} MB",
            f"{audit.weight_bytes / audit.floor_bytes:.3f}",
            f"{outcome.output.sqnr_db:.2f} dB",
            f"{outcome.output.cosine:.4f}",
            f"{outcome.embedding_sqnr_db:.2f} dB",
        )
    return table


def scale_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """Say for each recipe with run-time scales which rows of the engine's record compute them."""
    lines = []
    for outcome in outcomes:
        layers = outcome.engine.audit.layers
        computed = [layer for layer in layers if layer.scale_row]
        if not computed:
            lines.append(f"{outcome.recipe}: no scale is computed at run time")
            continue
        shown = next((layer for layer in computed if layer.name == _SHOWN_LAYER), computed[0])
        lines.append(f"{outcome.recipe}: {len(computed)} of {len(layers)} layers; {shown.name}, for one:")
        lines.append(f"    its scale in {_shortened(shown.scale_row)}")
        lines.append(f"    its GEMM in  {_shortened(shown.row)}")
    return lines


def _shortened(row: str) -> str:
    return row if len(row) <= _ROW_WIDTH else row[: _ROW_WIDTH - 1] + "…"


def file_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """List what was written."""
    lines = []
    for outcome in outcomes:
        lines.append(f"{outcome.onnx} (portable), {outcome.onnx.with_suffix('.trt.onnx').name} (TensorRT's form),")
        lines.append(f"    {outcome.engine.path.name}, {outcome.engine.path.name}.json (layer record and audit)")
    return lines


def command_lines(folder: Path) -> list[str]:
    """Return the commands that do the same for the default recipe."""
    onnx = folder / f"{DEFAULT_RECIPE}.onnx"
    engine = onnx.with_suffix(".engine")
    model = "\"$(python -c 'from samples.minilm.inputs import *; print(model_folder())')\""
    dims = " ".join(f"--dim {dim}" for dim in DIMS)
    return [
        'PATH="$PWD/.venv/bin:$PATH"',
        f"MODEL={model}",
        f'nvfp4-trt export "$MODEL" -o {onnx} --recipe {DEFAULT_RECIPE} \\',
        "    --inputs samples.minilm.inputs:calibration --dynamic batch,sequence",
        f"nvfp4-trt build engine {onnx} -o {engine} \\",
        f"    --target {TARGET} {dims}",
        f"nvfp4-trt inspect {engine}",
        f'nvfp4-trt compare {onnx} --reference "$MODEL" --inputs samples.minilm.inputs:test',
    ]


def _section(console: Console, title: str, lines: Iterable[str]) -> None:
    console.print(f"\n{title}", style="bold", markup=False, highlight=False)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipes that were asked for and print the summary; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m samples.minilm.demo", description=__doc__)
    parser.add_argument("--recipe", action="append", choices=ORDER, help="only this recipe; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("out/minilm"), help="folder for the files")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120)
    expected = embeddings(torch_runner())
    outcomes = []
    for recipe in options.recipe or ORDER:
        started = time.perf_counter()
        console.print(f"{recipe}: export, build, audit, compare …", highlight=False)
        try:
            outcomes.append(run_recipe(recipe, options.output, expected))
        except Nvfp4Error as error:
            console.print(f"[red]{recipe} failed[/red]")
            _section(console, f"error[{error.code}]", [error.message, f"hint: {error.hint}"])
            return error.exit_status
        console.print(f"    done in {time.perf_counter() - started:.0f} s", highlight=False)
    console.print()
    console.print(summary(outcomes))
    _section(
        console,
        "What the columns say",
        (
            "FP4 linears: of the layers asked for, those whose GEMM reads FP4 on both sides, by the engine's",
            "    own layer record; w4a16 asks for FP4 weights in memory only.",
            "FP4 weights: bytes of codes and block scales in the engine, over the 0.5625 bytes a weight that",
            "    the format takes at least.",
            "SQNR, cosine: last hidden state of the test sentences, the exported file on ONNX Runtime",
            "    against the float model on torch; for the embedding, after mean pooling and normalization.",
        ),
    )
    _section(console, "Scales computed at run time", scale_lines(outcomes))
    _section(console, "Files", file_lines(outcomes))
    _section(console, "The same from the command line", command_lines(options.output))
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    sys.exit(main())
