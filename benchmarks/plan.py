"""What `nvfp4-trt plan` predicts, against the engines that are built.

    python benchmarks/plan.py
    python benchmarks/plan.py --only minilm --recipe w4a4-static

Every model of `models.py` with few layers, and transformers of three sizes; static scales and scales for each
token; dynamic and fixed shapes. Each is built for sm_120 as `nvfp4-trt build engine` does by default, in a process
of its own, and not run. Exits with 1 if a goal is missed: engine bytes within 2 %, kernels within 5 %.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import click
from built import BACKEND, DTYPE, GPU, TARGET, dim_options
from models import NAMES, make
from rich.console import Console
from rich.table import Table

import nvfp4_trt
from nvfp4_trt.building.variants import Variant

BYTES, KERNELS = 0.02, 0.05
"""The goals: the largest relative errors."""
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


def line(case: Case, recipe: str, shapes: str, folder: Path) -> Line:
    """Export, plan and build one model."""
    sample = make(case.name, case.layers, DTYPE, scale=case.scale)
    path = folder / "model.onnx"
    nvfp4_trt.export(sample.module, path, recipe=recipe, inputs=[sample.inputs], dynamic=sample.dynamic)
    dims = dim_options(sample, FIXED if shapes == "fixed" else None)
    planned = nvfp4_trt.plan(path, gpus=[GPU], dims=dims).gpus[0].engine("nvfp4")
    engine = nvfp4_trt.build(
        path, folder / "engine", backend=BACKEND, targets=(TARGET,), dims=dims, gpu=GPU, cache=False
    )
    record = engine.record
    form = Variant(record.form, record.loosened, record.padded).name
    return Line(
        model=case.title,
        recipe=recipe,
        shapes=shapes,
        form=form if form == planned.variant else f"{form} ({planned.variant})",
        kernels=(planned.kernels, engine.audit.kernels),
        engine_bytes=(planned.engine_bytes, record.engine_bytes),
        weight_bytes=(planned.weight_bytes, record.memory.weight_bytes if record.memory else 0),
        moved_bytes=(planned.moved_bytes, record.cost["bytes"]),
        activation_bytes=(planned.activation_bytes, record.memory.activation_bytes if record.memory else 0),
    )


def show(lines: list[Line]) -> None:
    """Print the table."""
    columns = ("model", "recipe", "shapes", "form", "kernels", "engine MB", "bytes moved", "activations", "met")
    table = Table(*columns, box=None, pad_edge=False)
    for each in lines:
        sizes = each.engine_bytes[0] / 1e6, each.engine_bytes[1] / 1e6
        table.add_row(
            each.model,
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
@click.option("--json", "as_json", is_flag=True)
def main(only: str | None, recipe: str | None, as_json: bool) -> None:
    """Read the command line, plan and build, print."""
    lines = []
    for case in CASES:
        for each in RECIPES:
            for shapes in ("dynamic", "fixed"):
                if only in {None, case.title} and recipe in {None, each}:
                    with tempfile.TemporaryDirectory() as folder:
                        lines.append(line(case, each, shapes, Path(folder)))
                    print(lines[-1], file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(each) for each in lines]))
    else:
        show(lines)
    sys.exit(not all(each.met for each in lines))


if __name__ == "__main__":
    main()
