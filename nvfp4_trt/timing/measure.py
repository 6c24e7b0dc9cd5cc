"""Warm-up, then samples: launched one by one, and as a CUDA graph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.errors import EngineRunError
from nvfp4_trt.timing.events import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROUND = 25
"""Runs between two looks at the clock."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        warmup_seconds: runs before any counts: clocks rise, kernels are loaded.
        seconds: of samples, at least.
        least: samples, at least.
        most: samples, at most.
    """

    warmup_seconds: float = 1.0
    seconds: float = 2.0
    least: int = 50
    most: int = 20_000


@dataclass(frozen=True)
class Measured:
    """Samples of one piece of work.

    Attributes:
        plain: milliseconds of each run, launched one by one.
        graph: of each launch of a CUDA graph; empty where the work cannot be captured.
        graph_refused: why it cannot; empty where it can.
    """

    plain: Sequence[float]
    graph: Sequence[float]
    graph_refused: str = ""


def measure(
    run: Callable[[], None],
    stream: int,
    effort: Effort,
    *,
    graph: bool = True,
    between: Callable[[], None] = lambda: None,
) -> Measured:
    """Time work in a stream, warm, back to back: caches and clocks are those of a busy GPU.

    Args:
        run: enqueues the work, and does not wait for it.
        stream: the stream's handle; its context must be current.
        effort: how long.
        graph: whether to capture the work too.
        between: called after each round of runs, for example to look at the memory.

    Raises:
        EngineRunError: the work failed.
        DependencyMissingError: there is no CUDA driver, or no bindings for it.
    """
    with Stopwatch(stream) as watch:
        _until(lambda: watch.each(run, _ROUND), effort.warmup_seconds)
        between()
        plain = _samples(watch, run, effort, between)
        if not graph:
            return Measured(plain, ())
        try:
            captured = watch.capture(run)
        except EngineRunError as error:
            return Measured(plain, (), error.message)
        try:
            _until(lambda: watch.each(captured.launch, _ROUND), effort.warmup_seconds / 4)
            return Measured(plain, _samples(watch, captured.launch, effort, between))
        finally:
            watch.wait()
            captured.free()


def _until(step: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    step()
    while time.monotonic() < end:
        step()


def _samples(
    watch: Stopwatch, run: Callable[[], None], effort: Effort, between: Callable[[], None]
) -> list[float]:
    found: list[float] = []
    end = time.monotonic() + effort.seconds
    while len(found) < effort.most and (len(found) < effort.least or time.monotonic() < end):
        found += watch.each(run, min(_ROUND, effort.most - len(found)))
        between()
    return found
