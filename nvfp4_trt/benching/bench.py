"""Timing engines beside each other on this machine's GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.atomic import check_writable
from nvfp4_trt.benching.opened import opened, runnable
from nvfp4_trt.building.gpus import find_gpus
from nvfp4_trt.building.records import record_beside
from nvfp4_trt.costing import gpu_called
from nvfp4_trt.kernels.gpu import Device
from nvfp4_trt.timing import Bench, BenchRow, Effort, Measured, MemoryWatch, measure, rate, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvfp4_trt.benching.baseline import Candidate
    from nvfp4_trt.benching.feeds import Feed
    from nvfp4_trt.building import EngineRecord


def bench_engines(
    engines: Sequence[Candidate],
    *,
    inputs: Path | None = None,
    output: Path | None = None,
    seed: int = 0,
    effort: Effort | None = None,
    graph: bool = True,
    backend: str | None = None,
    allow_host_code: bool = False,
) -> Bench:
    """Time engines one after the other, each alone on the GPU, all on the same inputs.

    Args:
        engines: at least one; each with its record beside it, where there is one.
        inputs: a `.npz` file; by default drawn inputs of the shapes that the export recorded.
        output: a `.json` file for the result.
        seed: of drawn inputs.
        effort: how long.
        graph: time CUDA graphs too.
        backend: the module that built them; by default the record's, or the one that is installed.
        allow_host_code: let engines run code of their own on the host.

    Raises:
        Nvfp4Error: see `run_engine`.
    """
    if output is not None:
        check_writable(output)
    first, gpu = runnable(engines[0].engine)
    rows: list[BenchRow] = []
    feed: Feed | None = None
    device = Device()  # its context is the one that TensorRT uses
    try:
        for each in engines:
            record = record_beside(each.engine) or first
            device.enter()
            watch = MemoryWatch()
            with opened(each.engine, record, backend=backend, allow_host_code=allow_host_code) as loaded:
                feed = feed or loaded.feed(inputs, record, seed)
                loaded.run(feed)
                loaded.fix_outputs()
                watch.look()
                found = measure(loaded.enqueue, loaded.stream, effort or Effort(), graph=graph, between=watch.look)
            rows.append(row(each, record, feed, found, watch.peak_bytes))
    finally:
        device.close()
    known = gpu_called(gpu.name)
    made = Bench(
        gpu=gpu.name if known is None else known.name,
        device=gpu.name,
        architecture=gpu.architecture,
        driver=find_gpus().driver,
        backend=backend or (first.backend if first else ""),
        version=first.version if first else "",
        modelled_on=known.name if known else str(first.cost.get("gpu", "")) if first else "",
        results=tuple(rows),
    )
    if output is not None:
        made.save(output)
    return made


def row(each: Candidate, record: EngineRecord | None, feed: Feed, found: Measured, peak_bytes: int) -> BenchRow:
    """Return what the samples of one engine come to.

    Args:
        each: the engine.
        record: beside it.
        feed: what it ran on.
        found: the samples.
        peak_bytes: of device memory.
    """
    plain = summarize(found.plain)
    graph = summarize(found.graph) if found.graph else None
    median = (graph or plain).median_ms
    shape = {name: tuple(array.shape) for name, array in feed.items()}
    leading = next(iter(shape.values()), ())[:1]
    return BenchRow(
        name=each.engine.name,
        precision=each.precision,
        shape=shape,
        median_ms=median,
        modelled_ms=each.modelled_ms if _at_preferred(record, shape) else None,
        batch=leading[0] if leading else 1,
        rows_per_second=rate(leading[0] if leading else 1, median),
        plain=plain,
        graph=graph,
        graph_refused=found.graph_refused,
        peak_bytes=peak_bytes,
        engine_bytes=each.engine.stat().st_size,
    )


def _at_preferred(record: EngineRecord | None, shape: dict[str, tuple[int, ...]]) -> bool:
    """Tell whether these are the shapes that times are modelled at: the profile's preferred ones."""
    profile = {} if record is None else record.profile
    return all(shape.get(name) == tuple(shapes[1]) for name, shapes in profile.items())
