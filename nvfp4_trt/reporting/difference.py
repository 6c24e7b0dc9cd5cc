"""Two reports side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY
from nvfp4_trt.reporting import planned, text
from nvfp4_trt.reporting.summary import time_by_kind, worst_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nvfp4_trt.planning import Plan
    from nvfp4_trt.reporting.data import Engine, Layer, Report

    Pair = tuple[float | None, float | None]


class Both(NamedTuple):
    """One layer in both models; None where a model has not got it."""

    name: str
    first: Layer | None
    second: Layer | None


class Line(NamedTuple):
    """One figure of both."""

    label: str
    first: str
    second: str
    change: str


class Parts(NamedTuple):
    """One part of the bytes or of the modelled time in both; None where a model has none of it."""

    name: str
    first: float | None
    second: float | None


def layers_of_both(first: Report, second: Report) -> list[Both]:
    """Return every layer of either, in the first one's order."""
    ours, theirs = ({layer.name: layer for layer in each.layers} for each in (first, second))
    return [Both(name, ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]


def lines(first: Report, second: Report) -> list[Line]:
    """Return the figures that tell two models apart."""
    return [*_sizes(first, second), *_errors(first, second)]


def _sizes(first: Report, second: Report) -> Iterator[Line]:
    yield _line("Layers in FP4", (_fp4(first), _fp4(second)), text.count, relative=False)
    yield _line("Portable file", (first.onnx_bytes, second.onnx_bytes), text.size)
    engines = (first.engine, second.engine)
    if not any(engines):
        yield from _predicted(first.plan, second.plan)
        return
    yield _line("Engine", _of(engines, lambda engine: engine.bytes), text.size)
    yield _line("Kernel launches", _of(engines, lambda engine: engine.launches), text.count)
    told = _line("A run, modelled, µs", _of(engines, lambda engine: engine.microseconds), text.microseconds)
    same_gpu = len({engine.gpu for engine in engines if engine}) == 1
    yield told if same_gpu else told._replace(change="other GPUs")


def _predicted(first: Plan | None, second: Plan | None) -> Iterator[Line]:
    """Yield what is predicted of two models without engines."""
    if first is None or second is None:
        return
    made = planned.ours(first), planned.ours(second)
    yield _line("Engine, predicted", (made[0].engine_bytes, made[1].engine_bytes), text.size)
    yield _line("Kernel launches, predicted", (made[0].kernels, made[1].kernels), text.count)
    times = (made[0].microseconds_modelled, made[1].microseconds_modelled)
    told = _line("A run, predicted, µs", times, text.microseconds)
    yield told if first.gpus[0].gpu == second.gpus[0].gpu else told._replace(change="other GPUs")


def _of(engines: tuple[Engine | None, Engine | None], what: Callable[[Engine], float]) -> Pair:
    first, second = (what(engine) if engine else None for engine in engines)
    return first, second


def _errors(first: Report, second: Report) -> Iterator[Line]:
    ours, theirs = ({output.name: output.sqnr_db for output in each.accuracy} for each in (first, second))
    for name in {**ours, **theirs}:
        yield _line(
            f"Output {name}, SQNR in dB", (ours.get(name), theirs.get(name)), text.decibels, relative=False
        )
    worst = _worst(first), _worst(second)
    if worst != (None, None):
        yield _line("Worst layer, SQNR in dB", worst, text.decibels, relative=False)


def _worst(report: Report) -> float | None:
    layer = worst_layer(report.layers)
    return None if layer is None or layer.error is None else layer.error.sqnr_db


def _line(label: str, both: Pair, shown: Callable[[float | None], str], *, relative: bool = True) -> Line:
    first, second = both
    return Line(label, shown(first), shown(second), text.change(first, second, relative=relative))


def _fp4(report: Report) -> int:
    return sum(layer.precision in {NVFP4, WEIGHT_ONLY} for layer in report.layers if layer.kind)


def bytes_of_both(first: Report, second: Report) -> list[Parts]:
    """Return what the bytes of both files hold, the most first."""
    return _parts(*({share.name: float(share.bytes) for share in each.bytes} for each in (first, second)))


def time_of_both(first: Report, second: Report) -> list[Parts]:
    """Return what kernels the modelled time of both goes to, the most first; of plans where no engine is there."""
    engines = (first.engine, second.engine)
    if not any(engines):
        plans = (first.plan, second.plan)
        return _parts(
            *({p.kind: p.microseconds for p in planned.time_by_kind(plan)} if plan else {} for plan in plans)
        )
    return _parts(
        *({part.kind: part.microseconds for part in time_by_kind(each)} if each else {} for each in engines)
    )


def _parts(first: Mapping[str, float], second: Mapping[str, float]) -> list[Parts]:
    made = [Parts(name, first.get(name), second.get(name)) for name in {**first, **second}]
    return sorted(made, key=lambda part: -max(part.first or 0, part.second or 0))


def recipe_differences(first: Report, second: Report) -> list[tuple[str, str, str]]:
    """Return what is not the same in both recipes: key, the first one's value, the second one's."""
    ours, theirs = (dict(_flat("", each.recipe.model_dump(mode="json"))) for each in (first, second))
    keys = sorted({**ours, **theirs})
    return [
        (key, str(ours.get(key, text.NONE)), str(theirs.get(key, text.NONE)))
        for key in keys
        if ours.get(key) != theirs.get(key)
    ]


def _flat(prefix: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
