"""Tables and summaries for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4, WEIGHT_ONLY
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from nvfp4_trt.auditing import Audit
    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.layers import Layer
    from nvfp4_trt.portable import LayerScales
    from nvfp4_trt.recipe import Recipe


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; columns whose name starts with `#` hold numbers."""
    # A title as wide as it is: rich would fold one that is wider than the columns.
    heading = Text(title, no_wrap=True, overflow="ignore") if title else None
    made = Table(title=heading, title_justify="left", box=None, pad_edge=False, show_header=any(columns))
    for column in columns:
        made.add_column(column.lstrip("#"), justify="right" if column.startswith("#") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def export_summary(artifact: OnnxArtifact, specs: Sequence[str], seed: int) -> list[RenderableType]:
    """Return what `export` prints: every layer with its precision, and the reason where it is not FP4."""
    layers = artifact.layers
    counts = Counter(layer.precision for layer in layers)
    rows = [(x.name, x.kind, "x".join(map(str, x.shape)), x.precision, x.reason) for x in layers]
    parts: list[RenderableType] = [
        table("Layers", ("layer", "kind", "shape", "precision", "reason"), rows),
        "",
        f"recipe {escape(artifact.metadata.recipe['name'])}: "
        + ", ".join(f"{counted(count, 'layer')} {precision}" for precision, count in counts.most_common()),
    ]
    if specs:
        parts.append(f"inputs were random (seed {seed}): they trace the model and say nothing about real data")
    size = artifact.path.stat().st_size
    return [
        *parts,
        escape(f"wrote {artifact.path} ({readable_size(size)}); next: nvfp4-trt build engine {artifact.path}"),
    ]


def _candidates(record: EngineRecord) -> list[tuple[str, str]]:
    """Return a line for each variant that a search tried."""
    if len(record.candidates) < 2:  # noqa: PLR2004
        return []
    chosen = (record.form, record.loosened, record.padded, 0)
    lines = [
        (
            f"tried {each.name}" + (" (chosen)" if (*each.variant, each.blocks) == chosen else ""),
            each.error
            or f"{each.kernels} kernels, {each.bytes / 1e6:,.1f} MB moved, {each.microseconds:,.1f} µs modelled"
            + (f", so {each.predicted:,.1f} µs for all" if each.blocks else ""),
        )
        for each in record.candidates
    ]
    over = ("search", "its time was over before everything was tried: --budget SECONDS gives it more")
    return [*lines, over] if record.over else lines


def _cost(record: EngineRecord) -> list[tuple[str, str]]:
    """Return what a run costs; a record of before has no such figures."""
    if not record.cost:
        return []
    moved, time = record.cost["bytes"] / 1e6, record.cost["microseconds_modelled"]
    return [("a run, modelled", f"{moved:,.1f} MB moved, {time:,.1f} µs on {record.cost['gpu']}")]


_GEMMS = {NVFP4: "FP4 GEMMs", FP8: "FP8 GEMMs"}
_WEIGHTS = {
    WEIGHT_ONLY: "FP4 weights (GEMMs in higher precision)",
    FP8_WEIGHT_ONLY: "FP8 weights (GEMMs in higher precision)",
}


def _asked(audit: Audit, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return, for each precision that was asked for, how many layers have it."""
    counts = {title: audit.counts(precision) for precision, title in titles.items()}
    return [(title, f"{realized}/{asked}") for title, (asked, realized) in counts.items() if asked]


def engine_summary(record: EngineRecord, path: str) -> list[RenderableType]:
    """Return what `build engine` and `inspect` print of an engine."""
    audit = record.audit
    lines = [*_asked(audit, _GEMMS)]
    if lines:
        computed = sum(bool(layer.scale_row) for layer in audit.layers)
        lines.append(("with a run-time scale", f"{computed}"))
    lines += _asked(audit, _WEIGHTS)
    ratio = audit.weight_bytes / audit.floor_bytes if audit.floor_bytes else 0.0
    lines += [
        ("kernels", str(audit.kernels)),
        *_cost(record),
        *_candidates(record),
        ("engine", f"{record.engine_bytes:,} bytes"),
        (
            "FP4 weights",
            f"{audit.weight_bytes:,} bytes, {ratio:.3f} of the floor of 0.5625 bytes a parameter",
        ),
        (
            "built",
            f"in {record.seconds:.1f} s by {record.backend} {record.version} for {', '.join(record.targets)}",
        ),
    ]
    lines += [
        (f"profile {name}", " / ".join("x".join(map(str, s)) for s in p)) for name, p in record.profile.items()
    ]
    lines.append(("equivalent", record.trtexec))
    accepted = [layer for layer in audit.layers if layer.accepted]
    lines += [("accepted in higher precision", f"{layer.name}: {layer.reason}") for layer in accepted]
    lines.append(("files", f"{path} and {path}.json"))
    return [table("", ("", ""), lines)]


def engine_layers(record: EngineRecord) -> Table:
    """Return the audited layers of an engine."""
    rows = [
        (
            x.name,
            "x".join(map(str, x.shape)),
            x.requested,
            "yes" if x.realized else "accepted" if x.accepted else "no",
            *_scale_cells(record.scales.get(x.name)),
            x.row,
            x.scale_row or "-",
        )
        for x in record.audit.layers
    ]
    columns = ("layer", "shape", "requested", "realized", "weight scale", "activation scale", "#bytes")
    return table("Layers", (*columns, "row of the record", "run-time scale from"), rows)


def recipes_table(recipes: Mapping[str, Recipe], default: str) -> Table:
    """Return the built-in recipes."""
    rows = [
        (name, recipe.activations.scaling, recipe.weights.rule, "default" if name == default else "")
        for name, recipe in recipes.items()
    ]
    return table("Recipes", ("name", "activation scaling", "scale rule", ""), rows)


def layers_table(layers: Sequence[Layer], scales: Mapping[str, LayerScales]) -> Table:
    """Return the layers of a portable file, with their scales and bytes."""
    rows = [
        (x.name, "x".join(map(str, x.shape)), x.precision, *_scale_cells(scales.get(x.name)), _reason(x, scales))
        for x in layers
    ]
    columns = ("layer", "shape", "precision", "weight scale", "activation scale", "#bytes", "reason")
    return table("Layers", columns, rows)


def _reason(layer: Layer, scales: Mapping[str, LayerScales]) -> str:
    found = scales.get(layer.name)
    return layer.reason or ("" if found is None else found.problem)


def _scale_cells(scales: LayerScales | None) -> tuple[str, str, str]:
    if scales is None:
        return "-", "-", "-"
    return f"{scales.weight_scale:.4g}", scales.activation_scale, f"{scales.bytes:,}"


def counted(count: int, noun: str) -> str:
    """Return `1 layer`, `2 layers`, `2 batches`."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"
