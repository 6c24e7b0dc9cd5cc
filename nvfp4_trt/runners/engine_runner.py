"""An engine on this machine's GPU, as a Polygraphy runner; for either TensorRT.

Not yet run on a Blackwell GPU by this project.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvfp4_trt.building import choose_backend
from nvfp4_trt.building.backends import BackendName
from nvfp4_trt.building.network import make_logger
from nvfp4_trt.errors import DependencyMissingError, FeatureUnsupportedError
from nvfp4_trt.runners.gpu import refusal

if TYPE_CHECKING:
    from polygraphy.backend.trt import TrtRunner


def engine_runner(
    engine: Path,
    *,
    backend: str | None = None,
    profile: int | None = None,
    allow_host_code: bool = False,
    name: str = "engine",
) -> TrtRunner:
    """Return a Polygraphy runner of an engine; it loads the engine when it is entered.

    Args:
        engine: a serialized engine; read when the runner is entered.
        backend: the module that built it, `tensorrt` or `tensorrt_rtx`; by default the one that is installed.
        profile: index of the optimization profile; by default the first.
        allow_host_code: let the engine run code of its own on the host. Polygraphy's own loader always does.
        name: the runner's name in Polygraphy's results.

    Raises:
        BackendMissingError, FeatureUnsupportedError: the module cannot be imported, is too old, or is another than
            Polygraphy uses in this process already.
        DependencyMissingError: the CUDA runtime's library, through which Polygraphy copies, is not found.
    """
    chosen = choose_backend(backend)
    trt = chosen.load()
    tell_polygraphy(chosen.name)
    find_cuda_runtime()
    from polygraphy.backend.trt import TrtRunner

    def load() -> Any:
        return load_engine(trt, engine, allow_host_code=allow_host_code)

    return TrtRunner(load, name=name, optimization_profile=profile)


def load_engine(trt: Any, engine: Path, *, allow_host_code: bool = False) -> Any:
    """Deserialize an engine.

    Args:
        trt: the module that built it.
        engine: the file.
        allow_host_code: see `engine_runner`.

    Raises:
        GpuUnsupportedError: TensorRT does not support the GPU.
        EngineRunError: TensorRT refuses the engine for another reason; the message has it.
    """
    logger = make_logger(trt, io.StringIO())
    runtime = trt.Runtime(logger)
    if runtime is None:
        raise refusal(logger.last_error, f"{trt.__name__}'s runtime")
    runtime.engine_host_code_allowed = allow_host_code
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        raise refusal(logger.last_error, f"{engine} on {trt.__name__} {trt.__version__}")
    return loaded  # TensorRT's bindings keep the runtime and the logger as long as the engine


def tell_polygraphy(name: BackendName) -> None:
    """Let Polygraphy use the same module; it looks once in a process, when its TensorRT part is imported.

    Raises:
        FeatureUnsupportedError: it has looked already, and uses the other one.
    """
    from polygraphy import config

    wanted = name == BackendName.TENSORRT_RTX
    if "polygraphy.backend.trt" in sys.modules and wanted != config.USE_TENSORRT_RTX:
        raise FeatureUnsupportedError(
            f"Polygraphy uses {'tensorrt' if wanted else 'tensorrt_rtx'} in this process already, not {name}",
            "run engines of one TensorRT in one process, of the other in another",
        )
    config.USE_TENSORRT_RTX = wanted


def find_cuda_runtime() -> None:
    """Tell Polygraphy where the CUDA runtime's library is: it looks in folders, and not where pip installs it.

    Raises:
        DependencyMissingError: it is nowhere.
    """
    from polygraphy import cuda

    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        folder = str(Path(load_nvidia_dynamic_lib("cudart").abs_path).parent)
    except (ImportError, RuntimeError) as error:
        raise DependencyMissingError(
            f"the CUDA runtime, libcudart, is not found: {str(error).splitlines()[0]}",
            "pip install 'nvfp4-trt[cuda]' nvidia-cuda-runtime",
        ) from error
    known = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(dict.fromkeys([folder, *filter(None, known)]))
    cuda.wrapper()
