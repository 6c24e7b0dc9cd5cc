"""What `prove` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.benching import Proof


def proof_summary(made: Proof) -> list[RenderableType]:
    """Return a proof for people: a row a stage, and what was not run."""
    rows = [
        (each.name, f"{each.seconds:.1f}" if each.done else "not run", each.said, ", ".join(each.files))
        for each in made.stages
    ]
    where = f" on {made.gpu}" if made.gpu else ""
    parts: list[RenderableType] = [
        table("Stages", ("stage", "#seconds", "what came out", "files"), rows),
        "",
        escape(
            f"wrote {made.folder}: {made.model}, recipe {made.recipe}, by {made.backend} {made.version} for "
            f"{', '.join(made.targets)}{where}"
        ),
    ]
    if made.not_run:
        parts.append(f"not run: {', '.join(made.not_run)}")
    return parts
