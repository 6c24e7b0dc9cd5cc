"""What the page and the command tell first: a handful of figures."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4, WEIGHT_ONLY
from nvfp4_trt.reporting import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nvfp4_trt.reporting.data import Engine, Layer, Report

Mood = Literal["", "good", "bad"]
PRECISIONS = {
    NVFP4: "FP4",
    WEIGHT_ONLY: "FP4 weights",
    FP8: "FP8",
    FP8_WEIGHT_ONLY: "FP8 weights",
}
"""Names of precisions for people; others are dtypes."""


class Figure(NamedTuple):
    """One figure."""

    label: str
    value: str
    note: str = ""
    mood: Mood = ""


class Part(NamedTuple):
    """A part of the modelled time."""

    kind: str
    launches: int
    bytes: int
    microseconds: float


def figures(report: Report) -> list[Figure]:
    """Return the figures of a report."""
    engine = _of_plan(report) if report.engine is None else _of_engine(report.engine)
    return [*_of_file(report), *engine, *_of_errors(report)]


def _of_file(report: Report) -> Iterator[Figure]:
    known = [layer for layer in report.layers if layer.kind]
    fp4 = sum(layer.precision in {NVFP4, WEIGHT_ONLY} for layer in known)
    fp8 = sum(layer.precision in {FP8, FP8_WEIGHT_ONLY} for layer in known)
    note = f"{fp8} in FP8, {len(known) - fp4 - fp8} as they were"
    yield Figure("Layers in FP4", f"{fp4} of {len(known)}", note)
    yield Figure("Parameters", text.amount(report.parameters), f"in {len(report.layers)} layers and tables")
    share = text.percent(report.onnx_bytes, 2 * report.parameters)
    yield Figure("Portable file", text.size(report.onnx_bytes), f"{share} of its weights in 16 bits")


def _of_engine(engine: Engine | None) -> Iterator[Figure]:
    if engine is None:
        return
    yield Figure(
        "Engine", text.size(engine.bytes), f"{engine.backend} {engine.version}, {', '.join(engine.targets)}"
    )
    for name, (asked, realized) in engine.asked.items():
        mood: Mood = "good" if asked == realized else "bad"
        yield Figure(f"Audit: {PRECISIONS[name]}", f"{realized} of {asked}", "by the layer record", mood)
    yield Figure("Kernel launches", text.count(engine.launches), f"form {engine.form}")
    shapes = {"x".join(map(str, shapes[1])) for shapes in engine.profile.values()}
    at = f", at {', '.join(sorted(shapes))}" if shapes else ""
    yield Figure("A run, modelled", f"{engine.microseconds:,.0f} µs", f"not measured: {engine.gpu_title}{at}")


def _of_plan(report: Report) -> Iterator[Figure]:
    """Yield what is predicted where no engine was built."""
    if report.plan is None:
        return
    made, on = report.plan.gpus[0].engine("nvfp4"), report.plan.gpus[0]
    yield Figure("Engine, predicted", text.size(made.engine_bytes), f"for {on.target}; none was given")
    yield Figure("Kernel launches, predicted", text.count(made.kernels), f"form {made.variant}")
    others = " and ".join(f"{ratio:.1f} times as long in {name}" for name, ratio in on.speedups.items())
    shapes = sorted({"x".join(map(str, shape)) for shape in report.plan.shapes.values()})
    at = f", at {', '.join(shapes)}" if shapes else ""
    yield Figure(
        "A run, modelled",
        f"{made.microseconds_modelled:,.0f} µs",
        f"neither built nor measured: {on.title}{at}; {others}",
    )


def _of_errors(report: Report) -> Iterator[Figure]:
    drawn = ", random inputs" if report.inputs_random else ""
    for output in report.accuracy:
        mood: Mood = "bad" if output.sqnr_db is None else ""
        note = f"cosine {text.cosine(output.cosine)}{drawn}"
        yield Figure(f"Output {output.name}", f"{text.decibels(output.sqnr_db)} dB", note, mood)
    worst = worst_layer(report.layers)
    if worst is not None and worst.error is not None:
        mood = "bad" if worst.error.sqnr_db is None else ""
        yield Figure("Worst layer", f"{text.decibels(worst.error.sqnr_db)} dB", worst.name, mood)


def worst_layer(layers: Iterable[Layer]) -> Layer | None:
    """Return the layer of the lowest SQNR; one with NaN is worse than any."""
    known = [layer for layer in layers if layer.error is not None]

    def rank(layer: Layer) -> float:
        found = None if layer.error is None else layer.error.sqnr_db
        return -float("inf") if found is None else found

    return min(known, key=rank, default=None)


def time_by_kind(engine: Engine) -> list[Part]:
    """Return the modelled time by what kernels do, the most first."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for kernel in engine.kernels:
        part = sums[kernel.kind]
        part[0] += kernel.launches
        part[1] += kernel.read_bytes + kernel.written_bytes
        part[2] += kernel.microseconds
    made = [Part(kind, int(n), int(moved), time) for kind, (n, moved, time) in sums.items()]
    return sorted(made, key=lambda part: (-part.microseconds, part.kind))


def time_by_bound(engine: Engine) -> dict[str, float]:
    """Return the modelled microseconds by what bounds the kernels."""
    sums: dict[str, float] = defaultdict(float)
    for kernel in engine.kernels:
        sums[kernel.bound] += kernel.microseconds
    return dict(sorted(sums.items(), key=lambda item: -item[1]))
