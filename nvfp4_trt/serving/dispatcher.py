"""The dispatcher: requests of any served shape in, results of the same extents out."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np

from nvfp4_trt.errors import InputsMismatchError
from nvfp4_trt.serving.manifest import Manifest, read_manifest
from nvfp4_trt.serving.padding import pad, unpad
from nvfp4_trt.serving.planning import Run, plan
from nvfp4_trt.serving.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from nvfp4_trt.serving.padding import Array
    from nvfp4_trt.serving.sessions import Session


class Dispatcher:
    """Serves requests with a serving set.

    `dispatcher(inputs)` picks engines by `plan`, pads, runs, and cuts the results back. One call runs at a time;
    calls from other threads wait.

    Args:
        manifest: of the set.
        session: what runs it.
    """

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self.manifest = manifest
        self._session = session
        self._lock = Lock()

    @classmethod
    def load(cls, folder: str | Path, backend: str = "auto") -> Self:
        """Open a serving set.

        Args:
            folder: what `nvfp4-trt build engine --buckets` made.
            backend: `tensorrt` or `tensorrt_rtx` runs the engines, `onnxruntime` the portable file at the same
                padded shapes. `auto` takes the engines where this machine has their TensorRT and GPU, else ONNX
                Runtime.

        Raises:
            FileMissingError, FileTruncatedError, NotAModelError: see `read_manifest`; or an engine is not the one
                that was built.
            WrongKindError: the engines were built with the other TensorRT.
            BackendMissingError, DependencyMissingError: the backend or the CUDA driver is not there.
            EngineRunError: TensorRT refuses an engine.
            OnnxRunError: ONNX Runtime refuses the file.
        """
        path = Path(folder)
        manifest = read_manifest(path)
        return cls(manifest, open_session(path, manifest, backend))

    @property
    def backend(self) -> str:
        """What runs: `tensorrt`, `tensorrt_rtx` or `onnxruntime`."""
        return self._session.backend

    def plan(self, inputs: Mapping[str, Array]) -> tuple[Run, ...]:
        """Return the runs that a request takes, without running them.

        Raises:
            InputsMismatchError: a name, dtype or rank is not the model's, or a dimension has two extents.
            ShapeNotServedError: no engine takes the shape.
        """
        return plan(self.manifest, self._extents(inputs))

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Serve a request.

        Args:
            inputs: by name; dtypes and ranks as in the manifest.

        Returns:
            The model's outputs by name, with the request's extents.

        Raises:
            InputsMismatchError, ShapeNotServedError: see `plan`.
            EngineRunError, OnnxRunError: the backend failed.
        """
        with self._lock:
            parts = [self._run(run, inputs) for run in self.plan(inputs)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, run: Run, inputs: Mapping[str, Array]) -> dict[str, Array]:
        batch = self.manifest.batch
        feed = {}
        for tensor in self.manifest.inputs:
            array = inputs[tensor.name]
            if batch is not None and batch in tensor.dims:
                array = array[run.start : run.start + run.used[batch]]
            feed[tensor.name] = np.ascontiguousarray(pad(array, tensor, run.extents, batch))
        got = self._session.run(run, feed)
        return {tensor.name: unpad(got[tensor.name], tensor, run.used) for tensor in self.manifest.outputs}

    def _extents(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        wanted = [tensor.name for tensor in self.manifest.inputs]
        if set(inputs) != set(wanted):
            raise InputsMismatchError(
                f"the request has {', '.join(sorted(inputs)) or 'no inputs'}",
                f"the inputs are {', '.join(wanted)}",
            )
        extents: dict[str, int] = {}
        for tensor in self.manifest.inputs:
            array = inputs[tensor.name]
            fits = array.ndim == len(tensor.shape) and array.dtype == tensor.numpy_dtype
            if not fits or any(
                have != (extents.setdefault(want, have) if isinstance(want, str) else want)
                for have, want in zip(array.shape, tensor.shape, strict=True)
            ):
                raise InputsMismatchError(
                    f"{tensor.name} is {array.dtype} [{', '.join(map(str, array.shape))}]"
                    + (f", where {_told(extents)}" if fits and extents else ""),
                    f"the model takes {tensor.dtype} [{', '.join(map(str, tensor.shape))}]",
                )
        return extents

    def close(self) -> None:
        """Let go of engines and memory."""
        with self._lock:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _told(extents: Mapping[str, int]) -> str:
    return ", ".join(f"{name} is {extent}" for name, extent in extents.items())
