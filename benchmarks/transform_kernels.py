"""Kernel launches of a layer with smoothing and with low-rank branches, beside those without.

    python benchmarks/transform_kernels.py

Engines are built for sm_120 with TensorRT-RTX, in fp16, per token, without a search, and not run: kernels are
launches in the engine's layer record.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import torch
from models import make
from rich.console import Console
from rich.table import Table

import nvfp4_trt
from nvfp4_trt.recipe import RECIPES, Smooth, Weights

BASE = RECIPES["w4a4-dynamic-token"]
SMOOTH = BASE.model_copy(update={"smooth": Smooth()})
MODELS = (("minilm", 2, 1), ("llama-block", 1, 8))
"""Name, layers, and what divides the widths."""


@click.command(help=__doc__)
@click.option("--rank", default=32, show_default=True)
def main(rank: int) -> None:
    """Build and print."""
    branch = {"weights": Weights(low_rank=rank)}
    forms = {
        "none": BASE,
        "smoothing": SMOOTH,
        f"low rank {rank}": BASE.model_copy(update=branch),
        "both": SMOOTH.model_copy(update=branch),
    }
    table = Table("model", "layers", *forms, "FP4 GEMMs", title="kernel launches of the engine")
    for name, layers, scale in MODELS:
        sample = make(name, layers, torch.float16, scale=scale)
        counts, gemms = [], set()
        for recipe in forms.values():
            with tempfile.TemporaryDirectory() as scratch:
                onnx = Path(scratch) / "model.onnx"
                nvfp4_trt.export(
                    sample.module, onnx, recipe=recipe, inputs=[sample.inputs], dynamic=sample.dynamic
                )
                engine = nvfp4_trt.build(onnx, onnx.with_suffix(".engine"), backend="tensorrt_rtx", optimize="off")
            counts.append(str(engine.audit.kernels))
            gemms.add("{1} of {0}".format(*engine.audit.counts("nvfp4")))
        table.add_row(name, str(layers), *counts, ", ".join(sorted(gemms)))
    Console().print(table)


if __name__ == "__main__":
    main()
