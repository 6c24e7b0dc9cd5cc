"""Kernel launches of one transformer layer: TensorRT's own FP4 form, and the form with the plugin.

    python benchmarks/kernel_counts.py

Every figure is the launches of three layers less those of two, so that what stands before the first and after
the last does not count. Needs TensorRT-RTX, which builds for sm_120 on a machine without a GPU; nothing is run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from plugin_stages import plugin_nodes, stages
from torch import Tensor, nn
from torch.nn import functional

import nvfp4_trt
from nvfp4_trt.auditing import parse_record
from nvfp4_trt.building import choose_backend
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.spec import BuildSpec
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load, save

if TYPE_CHECKING:
    import onnx_ir as ir

WIDTH, HEADS, HIDDEN = 256, 4, 512
BATCH, SEQUENCE = (1, 8, 32), (1, 128, 512)
SCALINGS = {"static": "w4a4-static", "per tensor": "w4a4-dynamic", "per token": "w4a4-dynamic-token"}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class _Attention(nn.Module):
    """Self-attention whose three projections read one tensor."""

    def __init__(self, *, bias: bool, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected mixture of the values, `[batch, sequence, width]`."""
        q, k, v = (
            project(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        projected: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return projected


class BertLayer(nn.Module):
    """Attention and a GELU MLP, each followed by a residual and a LayerNorm; biases everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention(bias=True, causal=False)
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, `[batch, sequence, width]`."""
        x = self.norm_1(x + self.attention(x))
        normed: Tensor = self.norm_2(x + self.down(functional.gelu(self.up(x))))
        return normed


class LlamaLayer(nn.Module):
    """RMSNorm, causal attention, RMSNorm, SwiGLU, residuals; no biases, and no rotary embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.attention = _Attention(bias=False, causal=True)
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, `[batch, sequence, width]`."""
        x = x + self.attention(self.norm_1(x))
        normed = self.norm_2(x)
        added: Tensor = x + self.down(functional.silu(self.gate(normed)) * self.up(normed))
        return added


LAYERS = {"BERT-style": BertLayer, "Llama-style": LlamaLayer}


def export(kind: str, layers: int, recipe: str, dtype: torch.dtype, path: Path) -> None:
    """Export a stack of random layers with dynamic batch and sequence."""
    torch.manual_seed(0)
    stack = nn.Sequential(*(LAYERS[kind]() for _ in range(layers))).eval().to(dtype)
    x = torch.randn(2, 16, WIDTH).to(dtype)
    nvfp4_trt.export(stack, path, recipe=recipe, inputs=[{"input": x}], dynamic=("batch,sequence",))


def launches(model: ir.Model, folder: Path) -> Counter[str]:
    """Build a model for sm_120 and count the rows of its record that start a kernel, by type."""
    lowered = folder / "built.onnx"
    save(model, lowered)
    spec = BuildSpec(
        backend=choose_backend("tensorrt_rtx").name,
        targets=("sm_120",),
        model=lowered,
        engine=folder / "built.engine",
        record=folder / "record.txt",
        log=folder / "tensorrt.log",
        profiles=({value.name or "": _ranges(value) for value in model.graph.inputs},),
    )
    run_build(spec, folder)
    return Counter(row.type for row in parse_record(spec.record.read_text(encoding="utf-8")) if row.is_launch)


def _ranges(value: ir.Value) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the smallest, preferred and largest shape of an input; its dynamic axes are batch and sequence."""
    ranges = {"batch": BATCH, "sequence": SEQUENCE}
    shape = list(value.shape or ())
    least, best, most = (
        tuple(extent if isinstance(extent, int) else ranges[str(extent)][i] for extent in shape) for i in range(3)
    )
    return least, best, most


def native(kind: str, layers: int, recipe: str, dtype: torch.dtype, folder: Path) -> int:
    """Count the launches of TensorRT's own form."""
    portable = folder / "portable.onnx"
    export(kind, layers, recipe, dtype, portable)
    model, _ = load(portable)
    lower(model)
    return launches(model, folder).total()


def with_plugin(kind: str, layers: int, recipe: str, dtype: torch.dtype, folder: Path) -> tuple[int, int, int]:
    """Count the plugin nodes, the launches of what is left between them, and how many of these are shape calls."""
    portable = folder / "portable.onnx"
    export(kind, layers, recipe, dtype, portable)
    model, _ = load(portable)
    lowering = lower(model, plugin=True)
    if lowering.gemms:
        raise SystemExit(f"{kind}: {', '.join(lowering.gemms)} did not become plugin nodes")
    between = sum((launches(stage, folder) for stage in stages(model)), Counter())
    return plugin_nodes(model), between.total(), between["shape_call"]


def count(kind: str, dtype: torch.dtype, folder: Path) -> dict[str, dict[str, int]]:
    """Return the launches of one layer: scaling → native, plugin nodes, and what is left between them."""
    found = {}
    for scaling, recipe in SCALINGS.items():
        two, three = (native(kind, layers, recipe, dtype, folder) for layers in (2, 3))
        fewer, more = (with_plugin(kind, layers, recipe, dtype, folder) for layers in (2, 3))
        nodes, between, shapes = (b - a for a, b in zip(fewer, more, strict=True))
        found[scaling] = {"native": three - two, "plugin_nodes": nodes, "between": between, "shape_calls": shapes}
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {kind: count(kind, DTYPES[options.dtype], Path(folder)) for kind in LAYERS}
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| layer | scaling | native | with the plugin | plugin nodes | between them | of these, shape calls |")
    print("|---|---|---|---|---|---|---|")
    for kind, rows in found.items():
        for scaling, row in rows.items():
            total = row["plugin_nodes"] + row["between"]
            cells = [kind, scaling, row["native"], f"**{total}**", row["plugin_nodes"], row["between"]]
            print(f"| {' | '.join(map(str, cells))} | {row['shape_calls']} |")


if __name__ == "__main__":
    main()
