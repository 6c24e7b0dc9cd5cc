"""A portable file → a plan: the engines that the builder would make of it, on each GPU, modelled."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nvfp4_trt.building.profiles import parse_ranges
from nvfp4_trt.building.search import WORTH
from nvfp4_trt.building.variants import Variant
from nvfp4_trt.checking.outline import read_outline
from nvfp4_trt.costing import TensorShapes, cost_engine, find_gpu
from nvfp4_trt.errors import OnnxInvalidError
from nvfp4_trt.planning.calibration import read_ratios
from nvfp4_trt.planning.forecast import Forecast
from nvfp4_trt.planning.result import GpuPlan, Plan, PlanRow, PrecisionPlan
from nvfp4_trt.planning.sizes import builder_bytes
from nvfp4_trt.portable import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.building.variants import Optimize
    from nvfp4_trt.costing import GPU, EngineCost, RowCost
    from nvfp4_trt.planning.kernels import Kernel
    from nvfp4_trt.planning.predict import Predicted
    from nvfp4_trt.planning.result import Bound, Precision

PRECISIONS: tuple[Precision, ...] = ("nvfp4", "fp8", "bf16")
DEFAULTS = ("rtx5090", "rtx-pro-6000", "dgx-spark", "b200", "gb300", "thor")
"""The GPUs of a plan that names none."""
_SERVING = ("quantize", "swizzle", "dequantize", "gemm")


def plan_file(
    source: Path,
    *,
    gpus: Sequence[str] = (),
    dims: Sequence[str] = (),
    optimize: Optimize = "fast",
    calibrate: Path | None = None,
    name: str = "",
) -> Plan:
    """Plan the engines of a portable file.

    Args:
        source: what `nvfp4-trt export` wrote; no data of its weights is read.
        gpus: names, see `costing.find_gpu`; by default all.
        dims: ranges of dynamic dimensions, as the builder takes them.
        optimize: which variants the builder would try, see `building.variants`.
        calibrate: what `nvfp4-trt bench` measured, see `read_ratios`.
        name: what the model is called; by default its path.

    Raises:
        FileMissingError, FileTruncatedError, NotAModelError, OnnxInvalidError, NotOurOnnxError: see `read_outline`
            and `portable.load`.
        InputSpecError, ProfileError, UnknownGpuError: an option does not fit.
        BenchInvalidError: see `read_ratios`.
    """
    chosen = tuple(dict.fromkeys(find_gpu(each) for each in gpus)) or tuple(find_gpu(each) for each in DEFAULTS)
    measured, ratios = ("", {}) if calibrate is None else read_ratios(calibrate, [gpu.name for gpu in chosen])
    ranges = parse_ranges(dims)
    read_outline(source)  # says what is wrong with a file in words
    model, metadata = load(source)
    forecast = Forecast(model, ranges, metadata.example_shapes, optimize)
    try:
        engines = tuple(_on(gpu, forecast, ratios if gpu.name == measured else {}) for gpu in chosen)
    except OnnxInvalidError as error:
        raise OnnxInvalidError(f"{source}: {error.message}", error.hint) from error
    ours = forecast.predicted("nvfp4", Variant())
    return Plan(
        source=name or str(source),
        recipe=str(metadata.recipe.get("name", "")),
        shapes=forecast.shapes("opt"),
        largest=forecast.shapes("max"),
        builder_bytes=builder_bytes(ours.weight_bytes),
        notes=ours.notes,
        gpus=engines,
    )


def _on(gpu: GPU, forecast: Forecast, ratios: Mapping[str, float]) -> GpuPlan:
    """Plan the engine of each precision on one GPU, its times scaled by what was measured there."""
    made = []
    for precision in PRECISIONS:
        best = _best(forecast.candidates(precision), gpu)
        made.append(_engine(best, gpu, forecast.memory(best), ratios.get(precision, 1.0)))
    return GpuPlan(
        gpu=gpu.name,
        title=gpu.title,
        target=gpu.sm,
        memory_bytes=round(gpu.memory_gb * 1e9),
        calibrated=dict(ratios),
        engines=tuple(made),
    )


def _best(found: Sequence[Predicted], gpu: GPU) -> Predicted:
    """Return the engine that the builder would keep: of the least modelled time, if that is worth its build."""
    times = [_cost(each, gpu).microseconds for each in found]
    least = min(times)
    return found[0] if least > WORTH * times[0] else found[times.index(least)]


def _cost(predicted: Predicted, gpu: GPU) -> EngineCost:
    return cost_engine([kernel.row for kernel in predicted.kernels], gpu, TensorShapes())


def _engine(predicted: Predicted, gpu: GPU, memory: tuple[int, int], ratio: float) -> PrecisionPlan:
    cost = _cost(predicted, gpu)
    activations, bound = memory
    device = predicted.weight_bytes + activations + bound
    bounds: Counter[Bound] = Counter()
    for row in cost.rows:
        bounds[row.bound] += row.microseconds * ratio  # type: ignore[assignment]
    return PrecisionPlan(
        precision=predicted.precision,
        variant=predicted.variant.name,
        engine_bytes=predicted.engine_bytes,
        weight_bytes=predicted.weight_bytes,
        kernels=cost.kernels,
        moved_bytes=cost.bytes,
        activation_bytes=activations,
        device_bytes=device,
        fits=device <= gpu.memory_gb * 1e9,
        microseconds_modelled=round(cost.microseconds * ratio, 3),
        bounds={name: round(bounds[name], 3) for name in ("compute", "memory", "launch")},
        rows=tuple(_rows(predicted.kernels, cost.rows, ratio)),
    )


def _rows(kernels: Sequence[Kernel], costs: Sequence[RowCost], ratio: float) -> Iterator[PlanRow]:
    """Yield a row for each GEMM with what serves it, at the GEMM's place, and one for each other kernel."""
    serving: dict[tuple[str, ...], list[tuple[Kernel, RowCost]]] = {}
    for kernel, cost in zip(kernels, costs, strict=True):
        if kernel.kind in _SERVING and kernel.layers:
            serving.setdefault(kernel.layers, []).append((kernel, cost))
    shown: set[tuple[str, ...]] = set()
    for kernel, cost in zip(kernels, costs, strict=True):
        if kernel.kind not in _SERVING or not kernel.layers:
            yield _row(kernel.row.name, kernel.kind, [(kernel, cost)], ratio)
        elif kernel.layers not in shown:
            shown.add(kernel.layers)
            yield _row("+".join(kernel.layers), "linear", serving[kernel.layers], ratio)


def _row(name: str, kind: str, parts: Sequence[tuple[Kernel, RowCost]], ratio: float) -> PlanRow:
    main, cost = next((each for each in parts if each[0].kind == "gemm"), parts[0])
    helpers = Counter(kernel.kind for kernel, _ in parts if kernel is not main and kernel.kind != "gemm")
    weights = sum(operand.nbytes for kernel, _ in parts for operand in kernel.row.constants)
    slowest = max(parts, key=lambda each: each[1].microseconds)[1]
    return PlanRow(
        name=name,
        kind=kind,
        what=main.what,
        kernels=sum(each.kernels for _, each in parts),
        helpers=dict(helpers),
        precision=cost.precision,
        flops=sum(each.flops for _, each in parts),
        bytes=sum(each.read_bytes + each.written_bytes for _, each in parts),
        weight_bytes=weights,
        microseconds_modelled=round(sum(each.microseconds for _, each in parts) * ratio, 3),
        bound=slowest.bound,
    )
