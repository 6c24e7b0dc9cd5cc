"""Running engines on this machine's GPU, and timing them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.atomic import check_writable

if TYPE_CHECKING:
    from nvfp4_trt.benching import Bench, EngineRun
    from nvfp4_trt.building import EngineArtifact
    from nvfp4_trt.timing import Effort

    Engine = str | Path | EngineArtifact


def run(
    engine: Engine,
    *,
    inputs: str | Path | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    backend: str | None = None,
    allow_host_code: bool = False,
) -> EngineRun:
    """Run an engine once on this machine's GPU. Not yet run on a Blackwell GPU by this project.

    Args: and raises: see `nvfp4_trt.benching.run_engine`.
    """
    from nvfp4_trt.benching import run_engine

    return run_engine(
        _path(engine),
        inputs=None if inputs is None else Path(inputs),
        output=None if output is None else Path(output),
        seed=seed,
        backend=backend,
        allow_host_code=allow_host_code,
    )


def bench(
    engine: Engine,
    *,
    against: str | None = None,
    model: str | Path | None = None,
    inputs: str | Path | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    effort: Effort | None = None,
    graph: bool = True,
    backend: str | None = None,
    allow_host_code: bool = False,
) -> Bench:
    """Time an engine on this machine's GPU. Not yet run on a Blackwell GPU by this project.

    Args:
        engine: a serialized engine, with its record beside it.
        against: `bf16` or `fp16`: also time an engine of the same model without quantizers, built first.
        model: with `against`, the portable file that the engine was built from; by default the file beside the
            engine under its name, `model.onnx` beside `model.engine`.
        inputs: a `.npz` file; by default drawn inputs of the shapes that the export recorded.
        output: a `.json` file for the result.
        seed: of drawn inputs.
        effort: how long.
        graph: time CUDA graphs too.
        backend: the module that built the engine; by default the record's.
        allow_host_code: let engines run code of their own on the host.

    Raises:
        Nvfp4Error: see `nvfp4_trt.benching.bench_engines` and `build_baseline`.
    """
    from nvfp4_trt.benching import bench_engines, runnable, with_baseline
    from nvfp4_trt.costing import gpu_called

    path = _path(engine)
    if output is not None:
        check_writable(Path(output))
    _, gpu = runnable(path)  # before a baseline is built
    known = gpu_called(gpu.name)
    with with_baseline(path, against, None if model is None else Path(model), gpu=known) as engines:
        return bench_engines(
            engines,
            inputs=None if inputs is None else Path(inputs),
            output=None if output is None else Path(output),
            seed=seed,
            effort=effort,
            graph=graph,
            backend=backend,
            allow_host_code=allow_host_code,
        )


def _path(engine: Engine) -> Path:
    return Path(engine) if isinstance(engine, (str, Path)) else engine.path
