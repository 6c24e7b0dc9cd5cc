"""What `plan` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from nvfp4_trt.printing.tables import counted, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from nvfp4_trt.planning import GpuPlan, Plan, PlanRow, PrecisionPlan

_ENGINES = (
    *("GPU", "precision", "#engine MB", "#weights MB", "#kernels", "#device MB", "#moved MB", "#µs modelled"),
    *("#against nvfp4", "bound by (share of modelled time)"),
)
_ROWS = (
    *("layer or kernel", "kind", "operators", "#kernels", "with", "in", "#MB moved", "#µs modelled", "bound"),
)


def plan_summary(plan: Plan) -> list[RenderableType]:
    """Return a plan for people: the engines, then the rows of the NVFP4 engine on the first GPU."""
    first = plan.gpus[0]
    ours = first.engine("nvfp4")
    engines = [_engine(gpu, each) for gpu in plan.gpus for each in gpu.engines]
    parts: list[RenderableType] = [
        table("Engines", _ENGINES, engines),
        "",
        table(f"Kernels of the NVFP4 engine, modelled on {first.title}", _ROWS, map(_row, ours.rows)),
        "",
        escape(
            f"{plan.source}, {plan.recipe}; times at {_shapes(plan.shapes)}; memory at {_shapes(plan.largest)}"
        ),
        _lowering(plan, ours),
        f"{_calibration(first)}; nothing of this is measured",
    ]
    return [*parts, *(escape(f"note: {note}") for note in plan.notes)]


def _lowering(plan: Plan, ours: PrecisionPlan) -> str:
    build = f"the build takes about {plan.builder_bytes / 1e6:,.0f} MB of host memory"
    return f"{counted(ours.kernels, 'kernel')}, lowered as the builder would ({ours.variant}); {build}"


def _engine(gpu: GpuPlan, each: PrecisionPlan) -> tuple[object, ...]:
    ratio = gpu.speedups.get(each.precision)
    total = sum(each.bounds.values()) or 1.0
    bounds = ", ".join(f"{name} {time / total:.0%}" for name, time in each.bounds.items() if time)
    over = "" if each.fits else f" (more than its {gpu.memory_bytes / 1e9:g} GB)"
    return (
        gpu.gpu,
        each.precision,
        _mb(each.engine_bytes),
        _mb(each.weight_bytes),
        each.kernels,
        f"{_mb(each.device_bytes)}{over}",
        _mb(each.moved_bytes),
        f"{each.microseconds_modelled:,.1f}",
        "" if ratio is None else f"{ratio:.2f}x",
        bounds,
    )


def _row(row: PlanRow) -> tuple[object, ...]:
    helpers = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in row.helpers.items())
    moved = f"{row.bytes / 1e6:,.2f}"
    return (
        row.name,
        row.kind,
        row.what,
        row.kernels,
        helpers,
        row.precision,
        moved,
        f"{row.microseconds_modelled:,.2f}",
        row.bound,
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _calibration(gpu: GpuPlan) -> str:
    if not gpu.calibrated:
        return "times are modelled: peaks, bandwidth and 2 µs a launch (docs/cost-model.md)"
    ratios = ", ".join(f"{precision} x{ratio:.2f}" for precision, ratio in gpu.calibrated.items())
    return f"times are modelled and scaled by a benchmark of {gpu.gpu}: {ratios}"
