"""What `compare` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import counted, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.comparison import BackendMetrics, Comparison, LayerComparison, LayerMetrics


def comparison_summary(result: Comparison) -> list[RenderableType]:
    """Return the metrics of each output, and of each layer where layers were looked at."""
    rows = [(o.name, _decibels(o.sqnr_db), f"{o.cosine:.6f}", f"{o.max_abs_error:.4g}") for o in result.outputs]
    title = f"{result.model} against {result.reference}, {counted(result.batches, 'batch')}"
    shown: list[RenderableType] = [table(title, ("output", "#SQNR dB", "#cosine", "#max abs error"), rows)]
    shown += [
        escape(f"{name} is {theirs} in the reference, and {ours} in the file")
        for name, (theirs, ours) in result.dtypes.items()
    ]
    if result.layers is not None:
        shown += ["", *_layers(result.layers)]
    return shown


def _decibels(sqnr: float) -> str:
    """Return an SQNR as text."""
    from nvfp4_trt.comparison import SQNR_LIMIT  # which takes torch to import

    return "identical" if sqnr >= SQNR_LIMIT else f"{sqnr:.2f}"


def _layers(found: LayerComparison) -> list[RenderableType]:
    columns = (
        "layer",
        "#adds, torch",
        "#adds, file",
        "#inherits",
        "#output",
        "#cosine",
        "#max abs error",
        "#agree",
    )
    title = "Layers against the float model, SQNR in dB, the worst first"
    lines: list[RenderableType] = [table(title, columns, [_row(layer) for layer in found.layers]), ""]
    lines += [escape(str(each)) for each in found.nonfinite]
    if found.disagreement is None:
        names = dict.fromkeys(name for layer in found.layers for name in layer.backends if name != "torch")
        lines += [escape(_agreed(found, name)) for name in names]
    return lines


def _agreed(found: LayerComparison, backend: str) -> str:
    least = min((layer for layer in found.layers if backend in layer.backends), key=lambda x: _near(x, backend))
    what = {"onnxruntime": "file", "lowered": "lowered file"}.get(backend, backend)
    return (
        f"the quantized torch model and the {what} agree at every layer: {_near(least, backend):.1f} dB or more "
        f"on the same input (bound {found.bound_db:g}), least at {least.name}"
    )


def _row(layer: LayerMetrics) -> tuple[str, ...]:
    torch, file = layer.backends["torch"], layer.backends.get("onnxruntime")
    shown = file or torch
    return (
        layer.name,
        _own(torch),
        _own(file),
        _decibels(shown.inherited.sqnr_db),
        _decibels(shown.output.sqnr_db),
        f"{shown.output.cosine:.6f}",
        f"{shown.output.max_abs_error:.4g}",
        "-" if file is None else f"{_near(layer, 'onnxruntime'):.1f}",
    )


def _own(backend: BackendMetrics | None) -> str:
    return "-" if backend is None or backend.own is None else _decibels(backend.own.sqnr_db)


def _near(layer: LayerMetrics, backend: str) -> float:
    """Return how near torch and a backend are at a layer and in front of it, dB."""
    near = layer.backends[backend].agreement
    if near is None:
        return math.inf
    found = [each.sqnr_db for each in (near.between, near.layer) if each is not None]
    return math.nan if any(map(math.isnan, found)) else min(found)
