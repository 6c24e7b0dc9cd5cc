"""What `calibrate` prints: the scales, and what was seen of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from nvfp4_trt.printing.tables import counted, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from nvfp4_trt.calibration import Calibration


def calibration_object(made: Calibration, path: Path) -> dict[str, Any]:
    """Return what `calibrate --json` prints."""
    return {"calibration": str(path), **made.model_dump(mode="json", exclude={"format", "version"})}


def calibration_summary(made: Calibration, path: Path, specs: Sequence[str]) -> list[RenderableType]:
    """Return the table for people: what the scale of each layer is for, and what was seen of it."""
    columns = ("layer", "#amax", "#largest seen", "#median of blocks", "#blocks", "#saturated", "#subnormal")
    rows = [
        (
            layer.name,
            f"{layer.amax:.4g}",
            f"{layer.largest:.4g}",
            f"{layer.median:.4g}",
            layer.blocks,
            layer.saturated,
            layer.subnormal,
        )
        for layer in made.layers
    ]
    parts: list[RenderableType] = [table("Static scales", columns, rows), ""]
    if specs:
        parts.append("inputs were random: these scales say nothing about real data")
    observer = made.recipe.activations.observer
    return [
        *parts,
        escape(
            f"wrote {path}: {counted(len(made.layers), 'layer')}, observer {observer}; "
            f"next: nvfp4-trt export MODEL --calibration {path}"
        ),
    ]
