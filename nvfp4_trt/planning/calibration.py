"""`plan --calibrate`: modelled times scaled by what `bench` measured on the same GPU."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

from nvfp4_trt.costing import find_gpu
from nvfp4_trt.errors import BenchInvalidError
from nvfp4_trt.timing import load_bench

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def read_ratios(path: Path, gpus: Collection[str]) -> tuple[str, dict[str, float]]:
    """Return the GPU that a file's times were measured on, and measured over modelled time by precision.

    Of several rows of one precision, the geometric mean.

    Args:
        path: what `nvfp4-trt bench` wrote.
        gpus: names of the GPUs that are planned for.

    Raises:
        FileMissingError, BenchInvalidError: see `load_bench`; or it is of none of these GPUs, or no row has both
            times.
        UnknownGpuError: it was measured on a GPU that is not in the table.
    """
    bench = load_bench(path)
    gpu = find_gpu(bench.modelled_on or bench.gpu).name
    if gpu not in gpus:
        raise BenchInvalidError(f"{path} was measured on {gpu}, which is not planned for", f"add --gpu {gpu}")
    found: dict[str, list[float]] = defaultdict(list)
    for row in bench.results:
        if row.modelled_ms and row.median_ms > 0:
            found[row.precision].append(row.median_ms / row.modelled_ms)
    if not found:
        raise BenchInvalidError(
            f"{path}: no row has both a measured and a modelled time",
            "measure at the shapes that the engines were built for: nvfp4-trt bench ENGINE -o FILE.json",
        )
    return gpu, {precision: statistics.geometric_mean(each) for precision, each in found.items()}
