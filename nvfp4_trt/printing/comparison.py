"""What `compare` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import counted, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.comparison import Comparison, LayerComparison, LayerMetrics


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
    near = [layer for layer in found.layers if layer.agreement is not None]
    if found.disagreement is None and near:
        least = min(near, key=_agreement)
        lines.append(
            escape(
                f"the quantized torch model and the file agree at every layer: {_agreement(least):.1f} dB or more "
                f"on the same input (bound {found.bound_db:g}), least at {least.name}"
            )
        )
    return lines


def _row(layer: LayerMetrics) -> tuple[str, ...]:
    torch, file = layer.backends["torch"], layer.backends.get("onnxruntime")
    shown = file or torch
    return (
        layer.name,
        _decibels(torch.own.sqnr_db),
        "-" if file is None else _decibels(file.own.sqnr_db),
        _decibels(shown.inherited.sqnr_db),
        _decibels(shown.output.sqnr_db),
        f"{shown.output.cosine:.6f}",
        f"{shown.output.max_abs_error:.4g}",
        "-" if layer.agreement is None else f"{_agreement(layer):.1f}",
    )


def _agreement(layer: LayerMetrics) -> float:
    """Return how near torch and the file are at a layer and in front of it, dB."""
    if layer.agreement is None:
        return math.inf
    found = (layer.agreement.between.sqnr_db, layer.agreement.layer.sqnr_db)
    return math.nan if any(map(math.isnan, found)) else min(found)
