"""Kernels, bytes and memory of our engines, beside their goals.

    python benchmarks/engine_kernels.py --peer-venv .venv-modelopt
    python benchmarks/engine_kernels.py --row search --model gpt2-block --json

Engines are built for sm_120 with TensorRT-RTX, each in a process of its own, and not run: kernels are launches in
the engine's layer record, bytes are what their operands hold (`docs/cost-model.md`), activation memory is the
builder's own figure. `ours` is per token and searched (`optimize="fast"`) where nothing else is said.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click
from built import DTYPE, Built, build_onnx, dim_options, export_ours, export_plain, ours
from export_vs_modelopt import peer_python
from modelopt_engine import ModelOptFiles
from models import NAMES, Sample, make
from rich.console import Console
from rich.table import Table

from nvfp4_trt.errors import Nvfp4Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvfp4_trt.building.build import Optimize

TOKEN, STATIC = "w4a4-dynamic-token", "w4a4-static"
DYNAMIC = "dynamic"
BERT_SHAPES = ("1x128", "8x128")
BERT_STYLE = {"minilm", "bert-base", "vit-b"}
"""Models of LayerNorm, biases and GELU."""
SEARCHED = tuple(name for name in NAMES if name != "bert-base")
SECONDS = 60
"""What a build with the fast search of BERT-base may take."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    what: str
    ours: float | None
    baseline: float | None
    ratio: float | None
    goal: float | None
    """The largest ratio (for `time`: seconds) that meets the goal; None where a line only informs."""
    error: str = ""
    """Why there are no figures."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, and no error kept it from being measured; None where there is none."""
        if self.error:
            return False
        if self.goal is None:
            return None
        found = self.ours if self.ratio is None else self.ratio
        return found is not None and found <= self.goal


class Engines:
    """Exports and engines of the models, each made once.

    Args:
        folder: where the files go.
        files: ModelOpt's side.
        layers: instead of each model's own number.
        scale: see `models.make`.
    """

    def __init__(self, folder: Path, python: Path | None, layers: int | None, scale: int) -> None:
        self.folder, self.layers, self.scale = folder, layers, scale
        self._python = python
        self._peer: ModelOptFiles | None = None
        self._built: dict[tuple[str, ...], Built] = {}
        self._exports: dict[tuple[str, str], tuple[Path, Sample]] = {}

    @property
    def modelopt(self) -> ModelOptFiles:
        """ModelOpt's side, for which its virtual environment is made if missing."""
        if self._peer is None:
            python = peer_python(self._python or Path(".venv-modelopt"))
            self._peer = ModelOptFiles(self.folder / "modelopt", python, self.layers or 12)
        return self._peer

    def sample(self, name: str, shape: str) -> Sample:
        """Return a model with inputs of a shape; `dynamic` takes any."""
        extents = {"batch": 2, "sequence": 128} if shape == DYNAMIC else extents_of(shape)
        return make(name, self.layers, DTYPE, scale=self.scale, **extents)

    def ours(self, name: str, shape: str, recipe: str = TOKEN, optimize: Optimize = "fast") -> Built:
        """Return one of our engines, for one shape or for the whole range of them."""
        key = (name, shape, recipe, optimize)
        if key not in self._built:
            began = time.perf_counter()
            portable, dims = self._exported(name, shape, recipe)
            self._built[key] = ours(portable, self.folder / "-".join(key), dims, optimize)
            _say(" ".join(key), time.perf_counter() - began)
        return self._built[key]

    def _exported(self, name: str, shape: str, recipe: str) -> tuple[Path, tuple[str, ...]]:
        """Return the portable file, and what its dynamic dimensions are built for."""
        if (name, recipe) not in self._exports:
            sample = self.sample(name, DYNAMIC)
            portable = export_ours(sample, recipe, self.folder / f"{name}-{recipe}.onnx")
            self._exports[name, recipe] = portable, sample
        portable, sample = self._exports[name, recipe]
        return portable, dim_options(sample, None if shape == DYNAMIC else extents_of(shape))

    def fp16(self, name: str, shape: str) -> Built:
        """Return the engine of the model as it is, in fp16."""
        key = (name, shape, "fp16")
        if key not in self._built:
            began = time.perf_counter()
            exported = export_plain(self.sample(name, shape), self.folder / f"{name}-{shape}-plain.onnx")
            self._built[key] = build_onnx(exported, self.folder / "-".join(key))
            _say(" ".join(key), time.perf_counter() - began)
        return self._built[key]


def extents_of(shape: str) -> dict[str, int]:
    """Return the extents of a shape such as `8x128`."""
    return dict(zip(("batch", "sequence"), map(int, shape.split("x")), strict=True))


def _say(what: str, seconds: float) -> None:
    click.echo(f"{what}: {seconds:.1f} s", err=True)


def compare(row: str, what: str, key: str, goal: float | None, mine: Built, other: Built) -> Line:
    """Return a line of one figure of two engines."""
    ours_, theirs = mine.figures[key], other.figures[key]
    return Line(row, what, ours_, theirs, round(ours_ / theirs, 3), goal)


def against_modelopt(engines: Engines, shape: str, form: str) -> Iterator[Line]:
    """Compare BERT-base with ModelOpt's file of fixed shapes, or its dynamic one built for one shape."""
    row, what = "modelopt", f"BERT-base {shape}, its file {form}"
    mine, peer = engines.ours("bert-base", shape), engines.modelopt.engine(shape, form)
    beside = form == DYNAMIC  # the goals are against the better of its two files
    yield compare(row, f"{what}: kernels", "kernels", None if beside else 0.6, mine, peer)
    yield compare(row, f"{what}: bytes", "bytes", None if beside else 0.75, mine, peer)
    yield Line(row, f"{what}: waits, signals, casts", mine.cost.waits, peer.cost.waits, None, None)
    memory = 0.6 if shape == "8x128" and not beside else None
    yield compare(row, f"{what}: activation memory", "activation_bytes", memory, mine, peer)


def token_against_static(engines: Engines, name: str, shape: str) -> Iterator[Line]:
    """Compare launches with a scale for each token with launches with constant scales."""
    mine, constant = engines.ours(name, shape), engines.ours(name, shape, STATIC)
    goal = 1.0 if name in BERT_STYLE else 1.07
    yield compare("static", f"{name} {shape}: per token / static", "kernels", goal, mine, constant)


def search_against_plain(engines: Engines, name: str, shape: str) -> Iterator[Line]:
    """Compare the engine that the search chose with the plain lowering's."""
    mine, plain = engines.ours(name, shape), engines.ours(name, shape, optimize="off")
    goal = 0.9 if shape == DYNAMIC else 0.7
    yield compare("search", f"{name} {shape}: kernels", "kernels", goal if name in SEARCHED else 1.0, mine, plain)
    yield compare("search", f"{name} {shape}: bytes", "bytes", None, mine, plain)


def against_fp16(engines: Engines, name: str, shape: str) -> Iterator[Line]:
    """Compare bytes with the same model's in fp16, at batch 1."""
    mine, plain = engines.ours(name, shape), engines.fp16(name, shape)
    yield compare("fp16", f"{name} {shape}: bytes", "bytes", 0.45, mine, plain)
    yield compare("fp16", f"{name} {shape}: kernels", "kernels", None, mine, plain)


def search_time(engines: Engines, name: str, shape: str) -> Iterator[Line]:
    """Time a whole build with the fast search: lowering, candidates, audit."""
    mine, plain = engines.ours(name, shape), engines.ours(name, shape, optimize="off")
    seconds, against = round(mine.seconds, 1), round(mine.seconds / plain.seconds, 3)
    yield Line("time", f"{name} {shape}: seconds of a fast build", seconds, None, None, SECONDS)
    yield Line("time", f"{name} {shape}: fast / plain build", seconds, round(plain.seconds, 1), against, 2.0)


ROWS: dict[str, tuple[Callable[[Engines, str, str], Iterator[Line]], tuple[str, ...], tuple[str, ...]]] = {
    "modelopt": (against_modelopt, BERT_SHAPES, ("fixed", DYNAMIC)),
    "static": (token_against_static, NAMES, ("1x128", DYNAMIC)),
    "search": (search_against_plain, NAMES, ("1x128", DYNAMIC)),
    "fp16": (against_fp16, ("llama-block",), ("1x128", "1x1")),
    "time": (search_time, ("bert-base",), ("1x128", DYNAMIC)),
}
"""Row → what makes its lines, and its cases: of each of the first with each of the second."""


def lines_of(row: str, engines: Engines, names: tuple[str, ...]) -> Iterator[Line]:
    """Yield a row's lines, case by case, so that one that fails does not hide the others."""
    compared, firsts, seconds = ROWS[row]
    for first, second in product(names if firsts == NAMES else firsts, seconds):
        try:
            yield from compared(engines, first, second)
        except Nvfp4Error as error:
            what = f"{first} {second}: {error.code}"
            yield Line(row, what, None, None, None, None, error.message.splitlines()[0])


def show(lines: list[Line]) -> None:
    """Print the table, and the errors below it."""
    table = Table(title=f"sm_120, built and not run, {os.cpu_count()} CPUs")
    for heading in ("row", "what", "ours", "baseline", "ratio", "goal", ""):
        table.add_column(heading, justify="left" if heading in {"row", "what"} else "right", no_wrap=True)
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.3f}"
        goal = "" if line.goal is None else f"≤ {line.goal:g}"
        verdict = "FAILED" if line.error else {None: "", True: "met", False: "MISSED"}[line.met]
        table.add_row(line.row, line.what, _number(line.ours), _number(line.baseline), ratio, goal, verdict)
    console = Console(width=max(Console().width, 130))
    console.print(table)
    for line in lines:
        if line.error:
            console.print(f"{line.row} {line.what}: {line.error}", markup=False, highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if value < 10**6 else f"{value / 1e6:,.1f} M"


@click.command(help=__doc__)
@click.option("--row", "rows", type=click.Choice(list(ROWS)), multiple=True, help="May be repeated; default: all.")
@click.option("--model", "names", type=click.Choice(NAMES), multiple=True, help="For rows of several models.")
@click.option("--peer-venv", type=click.Path(path_type=Path), help="ModelOpt's; made if missing.")
@click.option("--layers", type=int, help="Instead of each model's own number; goals are for that one.")
@click.option("--scale", type=int, default=1, show_default=True, help="Divides the models' widths.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def main(
    rows: tuple[str, ...],
    names: tuple[str, ...],
    peer_venv: Path | None,
    layers: int | None,
    scale: int,
    *,
    as_json: bool,
) -> None:
    """Make the engines that the rows need, and print their figures."""
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="engine-kernels-") as work:
        engines = Engines(Path(work), peer_venv, layers, scale)
        lines = []
        for row in rows or ROWS:
            for line in lines_of(row, engines, names or NAMES):
                click.echo(f"{line.row} {line.what}: {line.ours} / {line.baseline} = {line.ratio}", err=True)
                lines.append(line)
    _say("altogether", time.perf_counter() - began)
    if as_json:
        click.echo(json.dumps([{**asdict(line), "met": line.met} for line in lines], indent=1))
    else:
        show(lines)


if __name__ == "__main__":
    main()
