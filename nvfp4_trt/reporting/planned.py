"""What an engine would be, where none was built, or beside the one that was: the plan, as the report shows it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.planning import plan_file
from nvfp4_trt.reporting.commands import ranges_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.planning import Plan, PlanRow, PrecisionPlan
    from nvfp4_trt.reporting.data import Engine, Layer

DEFAULT_GPU = "rtx5090"
"""The GPU of a plan where neither an engine nor `--gpu` says one."""
_KINDS = {
    "attention": "attention",
    "convolution": "convolutions",
    "opaque": "operators that nothing is known of",
}
_PRECISIONS = {"fp4": "FP4", "fp8": "FP8"}


class Part(NamedTuple):
    """A part of a plan's modelled time."""

    kind: str
    launches: int
    bytes: int
    microseconds: float


class Compared(NamedTuple):
    """One engine of the table of predictions."""

    name: str
    precision: str
    engine_bytes: int
    kernels: int
    moved_bytes: int
    microseconds: float
    device_bytes: int | None
    """None where it is not known of an engine that was built."""


def plan_of(
    source: Path,
    gpu: str,
    inputs: Mapping[str, Sequence[str]],
    record: EngineRecord | None,
    dims: Sequence[str] = (),
) -> Plan:
    """Plan a portable file on one GPU; of FP8 and bf16 only the totals are kept.

    Args:
        source: the file.
        gpu: see `costing.find_gpu`.
        inputs: input name → dtype and dimensions.
        record: of an engine that was built from it: the plan is of its profile and its effort.
        dims: ranges of dynamic dimensions, where there is no engine.

    Raises:
        Nvfp4Error: any of `planning.plan_file`.
    """
    if record is not None:
        dims = [f"{dim}={low}:{best}:{high}" for dim, low, best, high in ranges_of(inputs, record)]
    made = plan_file(
        source, gpus=[gpu], dims=dims, optimize="fast" if record is None else record.optimize, name=source.name
    )
    (on,) = made.gpus
    engines = tuple(
        each if each.precision == "nvfp4" else each.model_copy(update={"rows": ()}) for each in on.engines
    )
    return made.model_copy(update={"gpus": (on.model_copy(update={"engines": engines}),)})


def ours(plan: Plan) -> PrecisionPlan:
    """Return the NVFP4 engine of a report's plan."""
    return plan.gpus[0].engine("nvfp4")


def engines_of(plan: Plan, engine: Engine | None) -> list[Compared]:
    """Return the engine that was built, if one was, and those that are predicted."""
    found = []
    if engine is not None:
        moved = sum(each.read_bytes + each.written_bytes for each in engine.kernels)
        found.append(
            Compared(
                f"built: {engine.file}",
                "nvfp4",
                engine.bytes,
                engine.launches,
                moved,
                engine.microseconds,
                None if engine.activation_bytes is None else engine.weight_bytes + engine.activation_bytes,
            )
        )
    for each in plan.gpus[0].engines:
        figures = (each.engine_bytes, each.kernels, each.moved_bytes, each.microseconds_modelled)
        found.append(Compared("predicted", each.precision, *figures, each.device_bytes))
    return found


def time_by_kind(plan: Plan) -> list[Part]:
    """Return the modelled time of the NVFP4 engine by what kernels do, the most first."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for row in ours(plan).rows:
        part = sums[_kind(row)]
        part[0] += row.kernels
        part[1] += row.bytes
        part[2] += row.microseconds_modelled
    made = [Part(kind, int(n), int(moved), time) for kind, (n, moved, time) in sums.items()]
    return sorted(made, key=lambda part: (-part.microseconds, part.kind))


def _kind(row: PlanRow) -> str:
    if row.kind == "linear":
        return f"{_PRECISIONS.get(row.precision, 'other')} products, with what serves them"
    return _KINDS.get(row.kind, "all else")


def with_plan(layers: Iterable[Layer], plan: Plan) -> list[Layer]:
    """Return the layers with the modelled time of their GEMMs; a row of several is shared by their parameters."""
    known = list(layers)
    names = {layer.name for layer in known}
    rows: dict[str, PlanRow] = {}
    for row in ours(plan).rows:
        parts = [row.name] if row.name in names else row.name.split("+")
        if row.kind == "linear" and names.issuperset(parts):
            rows |= dict.fromkeys(parts, row)
    sharing: Counter[str] = Counter()
    for layer in known:
        if layer.name in rows:
            sharing[rows[layer.name].name] += layer.parameters
    return [_timed(layer, rows[layer.name], sharing) if layer.name in rows else layer for layer in known]


def _timed(layer: Layer, row: PlanRow, sharing: Mapping[str, int]) -> Layer:
    share = layer.parameters / (sharing[row.name] or 1)
    return layer.model_copy(update={"microseconds": row.microseconds_modelled * share, "bound": row.bound})
