"""What `run` and `bench` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import table
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from nvfp4_trt.benching import Bench, BenchRow, EngineRun


def run_summary(made: EngineRun, output: Path | None) -> list[RenderableType]:
    """Return a run for people: the outputs with their figures."""
    told = made.as_dict()
    rows = [
        (
            each["name"],
            each["dtype"],
            "x".join(map(str, each["shape"])),
            *(_number(each[key]) for key in ("min", "max", "mean")),
            each["not_finite"],
        )
        for each in told["outputs"]
    ]
    parts: list[RenderableType] = [
        table("Outputs", ("output", "dtype", "shape", "#min", "#max", "#mean", "#NaN or infinite"), rows),
        "",
        escape(f"{made.engine} on {made.gpu}"),
    ]
    if made.drawn:
        parts.append("inputs were drawn: the outputs mean nothing")
    return [*parts, *([escape(f"wrote {output}")] if output else [])]


def bench_summary(made: Bench, output: Path | None) -> list[RenderableType]:
    """Return measurements for people: a row an engine, and what was measured how."""
    columns = (
        "engine",
        "precision",
        "#median ms",
        "#p95 ms",
        "#launched ms",
        "#modelled ms",
        "#rows/s",
        "#peak memory",
    )
    parts: list[RenderableType] = [table("Times", columns, [_cells(row) for row in made.results]), ""]
    first = made.results[0]
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in first.shape.items())
    how = f"{first.graph.count} launches of a CUDA graph" if first.graph else f"{first.plain.count} launches"
    parts.append(escape(f"{made.device}, driver {made.driver}, {made.backend} {made.version}; {shapes}; {how}"))
    parts += [escape(f"{row.name} cannot be a CUDA graph: {row.graph_refused}") for row in _refused(made)]
    if made.modelled_on:
        parts.append(f"modelled on {made.modelled_on}, by the layer record")
    if made.speedup is not None:
        parts.append(f"{made.results[-1].precision} takes {made.speedup:.2f} times as long")
    return [*parts, *([escape(f"wrote {output}")] if output else [])]


def _refused(made: Bench) -> list[BenchRow]:
    return [row for row in made.results if row.graph_refused]


def _cells(row: BenchRow) -> tuple[object, ...]:
    return (
        row.name,
        row.precision,
        f"{row.median_ms:.4f}",
        f"{(row.graph or row.plain).p95_ms:.4f}",
        f"{row.plain.median_ms:.4f}",
        "-" if row.modelled_ms is None else f"{row.modelled_ms:.4f}",
        f"{row.rows_per_second:,.0f}",
        readable_size(row.peak_bytes),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
