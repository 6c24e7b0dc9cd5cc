"""What `check` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nvfp4_trt.printing.tables import counted, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.checking import Checked


def check_object(checked: Checked) -> dict[str, Any]:
    """Return the JSON object of a check."""
    return {
        "source": checked.source,
        "quantized": checked.quantized,
        "traced": checked.traced,
        "counts": checked.counts(),
        "layers": [asdict(layer) for layer in checked.layers],
    }


def check_summary(checked: Checked) -> list[RenderableType]:
    """Return a check for people: every layer, then how many there are of each precision."""
    rows = [(x.name, x.kind, "x".join(map(str, x.shape)), x.precision, x.reason, x.remedy) for x in checked.layers]
    counts = ", ".join(f"{counted(n, 'layer')} {precision}" for precision, n in checked.counts().items())
    state = "as the file is" if checked.quantized else "as `nvfp4-trt export` would quantize it"
    lines = [f"{counts}; {state}"]
    if not checked.traced:
        lines.append("products of activations, such as attention's, have no row: give --input or --inputs")
    return [
        table("Layers", ("layer", "kind", "shape", "precision", "reason", "remedy"), rows),
        "",
        *lines,
    ]
