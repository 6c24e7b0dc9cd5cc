"""What the command prints beside the page that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import table
from nvfp4_trt.reporting.summary import figures
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from nvfp4_trt.reporting.data import Report


def report_summary(made: Report, page: Path) -> list[RenderableType]:
    """Return the page's figures, and what it lacks."""
    rows = [(each.label, each.value, each.note) for each in figures(made)]
    lacks = [escape(f"no {each.section}: {each.how}") for each in made.missing]
    return [
        table(made.name, ("", "#", ""), rows),
        "",
        *lacks,
        escape(f"wrote {page} ({readable_size(page.stat().st_size)})"),
    ]
