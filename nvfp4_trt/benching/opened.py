"""An engine that is loaded, with its inputs bound: what running and timing it have in common."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nvfp4_trt.benching.feeds import Port, drawn_feed, fitted, read_feed
from nvfp4_trt.building.records import record_beside
from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import EngineRunError, Nvfp4Error
from nvfp4_trt.kernels.driver import cuda
from nvfp4_trt.runners.engine_runner import engine_runner, find_cuda_runtime, tell_polygraphy
from nvfp4_trt.runners.gpu import this_gpu
from nvfp4_trt.runners.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nvfp4_trt.benching.feeds import Array, Feed
    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.building.backends import Backend
    from nvfp4_trt.building.gpus import Gpu


class OpenEngine:
    """A loaded engine, through Polygraphy's runner.

    Args:
        runner: Polygraphy's `TrtRunner`, entered.
        name: of the engine, for messages.
    """

    def __init__(self, runner: Any, name: str) -> None:
        self._runner, self._name = runner, name
        metadata = runner.get_input_metadata(use_numpy_dtypes=False)
        self.ports = {
            key: Port(np.dtype(value.dtype.name), tuple(-1 if d in (-1, None) else d for d in value.shape))
            for key, value in metadata.items()
        }

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._runner.stream.ptr)

    def feed(self, inputs: Path | None, record: EngineRecord | None, seed: int) -> Feed:
        """Return the inputs of a file, or drawn ones; they fit the engine.

        Raises:
            Nvfp4Error: see `nvfp4_trt.benching.feeds`.
        """
        given = drawn_feed(self.ports, record, seed) if inputs is None else read_feed(inputs)
        return fitted(given, self.ports)

    def run(self, feed: Feed) -> dict[str, Array]:
        """Run once, and return the outputs; addresses stay bound, for `enqueue`.

        Raises:
            EngineRunError: TensorRT or the CUDA runtime failed.
        """
        # Polygraphy knows no NumPy bfloat16: it is given bytes of the same width, and gives raw bytes back.
        given = {name: _without_ml_dtypes(array) for name, array in feed.items()}
        with quiet():
            outputs = self._runner.infer(given, check_inputs=False, return_raw_buffers=True)
        return {name: self._as_array(name, value) for name, value in outputs.items()}

    def enqueue(self) -> None:
        """Enqueue one more run on the same inputs; nothing waits for it.

        Raises:
            EngineRunError: TensorRT refuses.
        """
        if not self._runner.context.execute_async_v3(self.stream):
            raise EngineRunError(f"TensorRT could not run {self._name}", "its own words are above")

    def fix_outputs(self) -> None:
        """Bind outputs where the last run put them: TensorRT asks for no memory then, and runs can be captured."""
        runner = self._runner
        for name, buffer in runner.output_allocator.buffers.items():
            runner.context.set_output_allocator(name, None)
            runner.context.set_tensor_address(name, int(buffer.ptr))

    def _as_array(self, name: str, value: Any) -> Array:
        from polygraphy.datatype import DataType

        dtype = np.dtype(DataType.from_dtype(self._runner.engine.get_tensor_dtype(name), "tensorrt").name)
        shape = tuple(value.shape)
        raw = np.asarray(value.array).view(np.uint8).reshape(-1)
        size = int(np.prod(shape)) * dtype.itemsize
        array: Array = raw[:size].view(dtype).reshape(shape).copy()
        return array


def runnable(engine: Path) -> tuple[EngineRecord | None, Gpu]:
    """Return an engine's record and the GPU that it will run on, before anything is loaded or built.

    Raises:
        FileMissingError, NotAModelError: see `building.records.record_beside`.
        GpuMissingError, GpuUnsupportedError: see `runners.gpu.this_gpu`.
    """
    record = record_beside(engine)
    return record, this_gpu(record.targets if record else ())


def ready_to_run(backend: Backend, targets: Sequence[str]) -> Gpu:
    """Make sure that engines of a backend can run here, before one is built; return the GPU.

    Args:
        backend: that will build the engine.
        targets: what it will be built for; by default anything that the backend builds for.

    Raises:
        GpuMissingError, GpuUnsupportedError: see `runners.gpu.this_gpu`.
        DependencyMissingError, BackendMissingError, FeatureUnsupportedError: software is missing.
    """
    gpu = this_gpu(targets or backend.targets, f"{backend.name} builds FP4 engines for")
    backend.load()
    cuda()
    tell_polygraphy(backend.name)
    find_cuda_runtime()
    return gpu


@contextmanager
def opened(
    engine: Path, record: EngineRecord | None, *, backend: str | None = None, allow_host_code: bool = False
) -> Iterator[OpenEngine]:
    """Load an engine, and unload it afterwards.

    Args:
        engine: the file.
        record: beside it; says which backend built it.
        backend: instead of the record's.
        allow_host_code: see `runners.engine_runner`.

    Raises:
        Nvfp4Error: see `runners.engine_runner`; what Polygraphy or TensorRT raises meanwhile is an EngineRunError.
    """
    runner = engine_runner(
        engine, backend=backend or (record.backend if record else None), allow_host_code=allow_host_code
    )
    try:
        with quiet():
            runner.activate()
        try:
            yield OpenEngine(runner, engine.name)
        finally:
            with quiet():
                runner.deactivate()
    except Nvfp4Error:
        raise
    except Exception as error:
        from polygraphy.exception import PolygraphyException

        if not isinstance(error, PolygraphyException):
            raise
        raise EngineRunError(
            f"{engine} could not be run: {first_line(error)}", "check the GPU and its free memory with nvidia-smi"
        ) from error


def _without_ml_dtypes(array: Array) -> Array:
    contiguous = np.ascontiguousarray(array)
    return contiguous.view(np.int16) if contiguous.dtype == np.dtype("bfloat16") else contiguous
