"""What `sensitivity` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import counted, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from nvfp4_trt.mixing import Sensitivity


def sensitivity_summary(result: Sensitivity, written: Sequence[str]) -> list[RenderableType]:
    """Return the layers with their damage, the worst first, and the recipe that was found.

    Args:
        result: of the run.
        written: paths of the files that it wrote.
    """
    found = result.found
    kept = () if found is None else found.kept
    rows = [
        (
            layer.name,
            "x".join(map(str, layer.shape)),
            f"{layer.sqnr_db:.2f}",
            f"{layer.share:.1%}",
            "" if found is None else found.keep if layer.name in kept else "nvfp4",
        )
        for layer in result.layers
    ]
    columns = ("layer", "shape", "#SQNR dB alone", "#share of noise", "" if found is None else "precision")
    parts: list[RenderableType] = [
        table("Layers, the most damaging first", columns, rows),
        "",
        escape(
            f"recipe {result.recipe}: {result.sqnr_db:.2f} dB with all {counted(len(rows), 'layer')} quantized; "
            f"{result.method}, {counted(result.batches, 'batch')}, {result.seconds:.1f} s"
        ),
    ]
    if found is not None:
        parts.append(
            escape(
                f"budget {found.budget}: {found.value:.6g} with {counted(len(kept), 'layer')} kept, "
                f"{found.tried} mixtures tried"
            )
        )
    return [*parts, *(escape(f"wrote {path}") for path in written)]
