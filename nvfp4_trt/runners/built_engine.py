"""An engine as it is found on disk: its record says what built it, and for which GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.building.records import record_beside
from nvfp4_trt.runners.engine_runner import engine_runner
from nvfp4_trt.runners.gpu import this_gpu

if TYPE_CHECKING:
    from pathlib import Path

    from polygraphy.backend.trt import TrtRunner


def built_engine_runner(engine: Path, *, backend: str | None = None, allow_host_code: bool = False) -> TrtRunner:
    """Return a Polygraphy runner of an engine, where this machine has a GPU that it was built for.

    Args:
        engine: the file; its record may be beside it.
        backend: the module that built it; by default the one in the record, or that is installed.
        allow_host_code: see `engine_runner`.

    Raises:
        FileMissingError: there is no such engine.
        NotAModelError: what is beside it is no record of it.
        GpuMissingError, GpuUnsupportedError: see `this_gpu`.
        Nvfp4Error: see `engine_runner`.
    """
    record = record_beside(engine)
    this_gpu(() if record is None else record.targets)
    built_by = backend or (None if record is None else record.backend)
    return engine_runner(engine, backend=built_by, allow_host_code=allow_host_code)
