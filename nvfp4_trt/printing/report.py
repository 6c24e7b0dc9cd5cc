"""What `report` prints beside the page that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from nvfp4_trt.printing.tables import table
from nvfp4_trt.reporting.difference import lines
from nvfp4_trt.reporting.summary import figures
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from nvfp4_trt.reporting import Report


def report_object(made: Report, other: Report | None, page: Path) -> dict[str, Any]:
    """Return the page's place and the data behind it."""
    told = {"html": str(page), "report": made.model_dump(mode="json")}
    return told if other is None else {**told, "other": other.model_dump(mode="json")}


def report_summary(made: Report, other: Report | None, page: Path) -> list[RenderableType]:
    """Return the page's figures, and what it lacks."""
    wrote = escape(f"wrote {page} ({readable_size(page.stat().st_size)})")
    if other is not None:
        columns = ("", f"#{escape(made.name)}", f"#{escape(other.name)}", "#change")
        return [table("", columns, lines(made, other)), "", wrote]
    rows = [(each.label, each.value, each.note) for each in figures(made)]
    lacks = [escape(f"no {each.section}: {each.how}") for each in made.missing]
    return [table(made.name, ("", "#", ""), rows), "", *lacks, wrote]
