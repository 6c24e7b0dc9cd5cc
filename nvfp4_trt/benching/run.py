"""Running an engine once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nvfp4_trt.atomic import check_writable, output_file
from nvfp4_trt.benching.opened import opened, runnable

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.benching.feeds import Array, Feed


@dataclass(frozen=True)
class EngineRun:
    """What one run of an engine gave.

    Attributes:
        engine: the file.
        gpu: as its driver names it.
        drawn: whether the inputs were drawn, so that the outputs mean nothing.
        inputs: what went in.
        outputs: what came out.
    """

    engine: Path
    gpu: str
    drawn: bool
    inputs: Feed
    outputs: Feed

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints: shapes, dtypes and figures of each array."""
        return {
            "engine": str(self.engine),
            "gpu": self.gpu,
            "drawn": self.drawn,
            "inputs": [_figures(name, array) for name, array in self.inputs.items()],
            "outputs": [_figures(name, array) for name, array in self.outputs.items()],
        }

    def save(self, path: Path) -> None:
        """Write the outputs as `.npz`; bfloat16, which it has not, is widened to float32 (exact).

        Raises:
            OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
        """
        with output_file(path) as scratch, scratch.open("wb") as file:
            arrays: dict[str, Any] = {name: _saved(array) for name, array in self.outputs.items()}
            np.savez(file, **arrays)


def run_engine(
    engine: Path,
    *,
    inputs: Path | None = None,
    output: Path | None = None,
    seed: int = 0,
    backend: str | None = None,
    allow_host_code: bool = False,
) -> EngineRun:
    """Run an engine on this machine's GPU.

    Args:
        engine: a serialized engine, its record beside it where there is one.
        inputs: a `.npz` file; by default drawn inputs of the shapes that the export recorded.
        output: a `.npz` file for the outputs.
        seed: of drawn inputs.
        backend: the module that built the engine; by default the record's, or the one that is installed.
        allow_host_code: let the engine run code of its own on the host.

    Raises:
        GpuMissingError, GpuUnsupportedError: no GPU here, or another than the engine was built for.
        InputsMismatchError, InputsMissingError: the inputs do not fit, or cannot be drawn.
        Nvfp4Error: any other of `runners.engine_runner`, and those of reading and writing files.
    """
    if output is not None:
        check_writable(output)
    record, gpu = runnable(engine)
    with opened(engine, record, backend=backend, allow_host_code=allow_host_code) as loaded:
        feed = loaded.feed(inputs, record, seed)
        made = EngineRun(engine, gpu.name, inputs is None, feed, loaded.run(feed))
    if output is not None:
        made.save(output)
    return made


def _saved(array: Array) -> Array:
    widened: Array = array.astype(np.float32) if array.dtype == np.dtype("bfloat16") else array
    return widened


def _figures(name: str, array: Array) -> dict[str, Any]:
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    return {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean()) if finite.size else None,
        "not_finite": int(values.size - finite.size),
    }
