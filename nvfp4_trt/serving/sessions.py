"""What runs a serving set: its engines on a GPU, or the portable file on ONNX Runtime at the same shapes."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Protocol

from nvfp4_trt.building import BACKENDS, BackendName
from nvfp4_trt.building.backends import local_architecture
from nvfp4_trt.errors import InputSpecError, WrongKindError

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.serving.manifest import Manifest
    from nvfp4_trt.serving.padding import Array
    from nvfp4_trt.serving.planning import Run

ONNXRUNTIME = "onnxruntime"
BACKEND_NAMES = ("auto", ONNXRUNTIME, *map(str, BackendName))


class Session(Protocol):
    """Runs a model at the shapes of one run."""

    backend: str
    """What it is."""

    def run(self, run: Run, feed: dict[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            run: which engine, and at which extents.
            feed: every input, of exactly those extents, contiguous.

        Returns:
            Every output, of those extents.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


def open_session(folder: Path, manifest: Manifest, backend: str) -> Session:
    """Return what runs a serving set.

    Args:
        folder: the set.
        manifest: its manifest.
        backend: one of `BACKEND_NAMES`.

    Raises:
        InputSpecError: another name.
        WrongKindError: the engines were built with the other TensorRT.
        Nvfp4Error: see `Dispatcher.load`.
    """
    if backend not in BACKEND_NAMES:
        raise InputSpecError(f"backend {backend!r} is not known", f"choose one of {', '.join(BACKEND_NAMES)}")
    chosen = _found(manifest) if backend == "auto" else backend
    if chosen == ONNXRUNTIME:
        from nvfp4_trt.serving.onnx_session import OnnxSession

        return OnnxSession(folder, manifest)
    if chosen != manifest.backend:
        raise WrongKindError(
            f"the engines of {folder} were built with {manifest.backend}, and {chosen} cannot load them",
            f"backend={manifest.backend!r}, or 'onnxruntime'",
        )
    from nvfp4_trt.serving.engine_session import EngineSession

    return EngineSession(folder, manifest, BACKENDS[BackendName(chosen)].load())


def _found(manifest: Manifest) -> str:
    """Return the set's own backend where it is installed and the GPU is one that it was built for."""
    installed = importlib.util.find_spec(manifest.backend) is not None
    here = local_architecture()
    # A backend that does not cross-compile names no target: it built for the GPU of its machine.
    fits = here is not None and (here in manifest.targets or not manifest.targets)
    return manifest.backend if installed and fits else ONNXRUNTIME
