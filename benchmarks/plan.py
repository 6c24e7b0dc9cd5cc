"""What `nvfp4-trt plan` predicts, against the engines that are built.

    python benchmarks/plan.py
    python benchmarks/plan.py --only minilm --recipe w4a4-static
    python benchmarks/plan.py --precision fp8 --precision bf16

Every model of `models.py` with few layers, and transformers of three sizes; static scales and scales for each
token; dynamic and fixed shapes. Each is built for sm_120 as `nvfp4-trt build engine` does by default, in a process
of its own, and not run. FP8 engines are those of an export to FP8, 16-bit ones those of the file without its
quantizers. Exits with 1 if a goal is missed: engine bytes within 2 %, kernels within 5 %.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import onnx_ir as ir
from built import BACKEND, DIMS, DTYPE, GPU, TARGET, build_onnx, built_of, dim_options
from models import NAMES, make
from rich.console import Console
from rich.table import Table

import nvfp4_trt
from nvfp4_trt.benching.floats import to_floats
from nvfp4_trt.building.variants import Variant
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load, save

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from built import Built

    from nvfp4_trt.building import Optimize
    from nvfp4_trt.planning.result import Precision

BYTES, KERNELS = 0.02, 0.05
"""The goals: the largest relative errors."""
PRECISIONS: tuple[Precision, ...] = ("nvfp4", "fp8", "bf16")
RECIPES = ("w4a4-static", "w4a4-dynamic-token")
FIXED = {"batch": 8, "sequence": 128}


class Case(NamedTuple):
    """One model to plan and to build."""

    title: str
    name: str
    layers: int
    scale: int = 1


CASES = (
    *(Case(name, name, 1 if name == "llama-block" else 2) for name in NAMES),
    Case("transformer, 192 wide, 12 layers", "bert-base", 12, 4),
    Case("transformer, 768 wide, 12 layers", "bert-base", 12),
    Case("transformer, 4096 wide, 2 layers", "llama-block", 2),
)


@dataclass(frozen=True)
class Line:
    """One engine, as it was predicted and as it was built."""

    model: str
    precision: str
    recipe: str
    shapes: str
    form: str
    """How the builder lowered the model; with the prediction in brackets where that is another."""
    kernels: tuple[int, int]
    """Predicted, built; likewise below."""
    engine_bytes: tuple[int, int]
    weight_bytes: tuple[int, int]
    moved_bytes: tuple[int, int]
    activation_bytes: tuple[int, int]

    @property
    def met(self) -> bool:
        """Whether both goals are met."""
        return abs(error(self.kernels)) <= KERNELS and abs(error(self.engine_bytes)) <= BYTES


def error(pair: tuple[int, int]) -> float:
    """Return by how much the prediction is off, relative."""
    return pair[0] / pair[1] - 1


def lines_of(
    case: Case, recipe: str, shapes: str, precisions: Sequence[Precision], folder: Path
) -> Iterator[Line]:
    """Export, plan and build one model in several precisions."""
    sample = make(case.name, case.layers, DTYPE, scale=case.scale)
    path = folder / "model.onnx"
    nvfp4_trt.export(sample.module, path, recipe=recipe, inputs=[sample.inputs], dynamic=sample.dynamic)
    extents = FIXED if shapes == "fixed" else None
    dims = dim_options(sample, extents)
    planned = nvfp4_trt.plan(path, gpus=[GPU], dims=dims).gpus[0]
    for precision in precisions:
        if precision == "nvfp4":
            built, form = _build(path, folder / precision, dims, "fast")
        elif precision == "fp8":
            other = folder / "fp8.onnx"
            nvfp4_trt.export(
                sample.module, other, recipe=recipe, inputs=[sample.inputs], dynamic=sample.dynamic, fp8=["*"]
            )
            built, form = _build(other, folder / precision, dims, "off")
        else:
            built, form = _build_floats(path, folder / precision, extents), Variant().name
        foreseen = planned.engine(precision)
        yield Line(
            model=case.title,
            precision=precision,
            recipe=recipe,
            shapes=shapes,
            form=form if form == foreseen.variant else f"{form} ({foreseen.variant})",
            kernels=(foreseen.kernels, built.cost.kernels),
            engine_bytes=(foreseen.engine_bytes, built.engine_bytes),
            weight_bytes=(foreseen.weight_bytes, built.weight_bytes),
            moved_bytes=(foreseen.moved_bytes, built.cost.bytes),
            activation_bytes=(foreseen.activation_bytes, built.activation_bytes),
        )


def _build(model: Path, folder: Path, dims: Sequence[str], optimize: Optimize) -> tuple[Built, str]:
    """Build a portable file as the command does; return the engine, and how the file was lowered."""
    folder.mkdir()
    engine = nvfp4_trt.build(
        model,
        folder / "engine",
        backend=BACKEND,
        targets=(TARGET,),
        dims=dims,
        gpu=GPU,
        cache=False,
        optimize=optimize,
        lowered=folder / "lowered.onnx",
        log=folder / "tensorrt.log",
    )
    record = engine.record
    log = (folder / "tensorrt.log").read_text(encoding="utf-8", errors="replace")
    made = built_of(record.rows, ir.load(folder / "lowered.onnx"), record.profile, log, 0.0, engine.path)
    return made, Variant(record.form, record.loosened, record.padded).name


def _build_floats(model: Path, folder: Path, extents: Mapping[str, int] | None) -> Built:
    """Build a portable file without its quantizers, in the dtype that it computes in."""
    floats, _ = load(model)
    to_floats(floats, ir.DataType.FLOAT16)
    lower(floats, extents=extents)
    folder.mkdir()
    save(floats, folder / "floats.onnx")
    return build_onnx(folder / "floats.onnx", folder, DIMS)


def show(lines: list[Line]) -> None:
    """Print the table."""
    columns = (
        "model",
        "engine",
        "recipe",
        "shapes",
        "form",
        "kernels",
        "engine MB",
        "bytes moved",
        "activations",
        "met",
    )
    table = Table(*columns, box=None, pad_edge=False)
    for each in lines:
        sizes = each.engine_bytes[0] / 1e6, each.engine_bytes[1] / 1e6
        table.add_row(
            each.model,
            each.precision,
            each.recipe,
            each.shapes,
            each.form,
            f"{each.kernels[0]} / {each.kernels[1]} ({error(each.kernels):+.1%})",
            f"{sizes[0]:.2f} / {sizes[1]:.2f} ({error(each.engine_bytes):+.2%})",
            f"{error(each.moved_bytes):+.1%}",
            f"{error(each.activation_bytes):+.0%}",
            "yes" if each.met else "no",
        )
    Console(width=200, highlight=False).print(table)


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(sorted({case.title for case in CASES})), help="One model.")
@click.option("--recipe", type=click.Choice(RECIPES), help="One recipe.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=("nvfp4",),
    show_default=True,
    help="Engines to build. Repeat for more.",
)
@click.option("--json", "as_json", is_flag=True)
def main(only: str | None, recipe: str | None, precisions: tuple[Precision, ...], as_json: bool) -> None:
    """Read the command line, plan and build, print."""
    lines = []
    for case, each, shapes in itertools.product(CASES, RECIPES, ("dynamic", "fixed")):
        if only in {None, case.title} and recipe in {None, each}:
            with tempfile.TemporaryDirectory() as folder:
                for line in lines_of(case, each, shapes, precisions, Path(folder)):
                    lines.append(line)
                    print(line, file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(each) for each in lines]))
    else:
        show(lines)
    sys.exit(not all(each.met for each in lines))


if __name__ == "__main__":
    main()
