"""The portable file of a serving set on ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import OnnxRunError
from nvfp4_trt.portable import load
from nvfp4_trt.runners import onnx_runner, quiet
from nvfp4_trt.serving.manifest import check_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.serving.manifest import Manifest
    from nvfp4_trt.serving.padding import Array
    from nvfp4_trt.serving.planning import Run


class OnnxSession:
    """Runs `model.onnx` at whatever shape a run has, so that results are padded and cut as an engine's are.

    Args:
        folder: the serving set.
        manifest: its manifest.

    Raises:
        FileTruncatedError: the file is not the one that the manifest describes.
        OnnxRunError: ONNX Runtime refuses it.
    """

    backend = "onnxruntime"

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        path = folder / manifest.model.file
        check_sha256(path, manifest.model.sha256)
        model, _ = load(path)
        self._manifest = manifest
        self._runner = onnx_runner(path, model)
        with quiet():
            self._runner.activate()
        self._takes = {name: each.dtype for name, each in self._runner.get_input_metadata().items()}

    def run(self, run: Run, feed: dict[str, Array]) -> dict[str, Array]:
        """See `Session.run`; a model of bf16 is run with fp32 around it, which changes no value.

        Raises:
            OnnxRunError: ONNX Runtime failed.
        """
        given = {name: array.astype(self._takes[name], copy=False) for name, array in feed.items()}
        with quiet():
            try:
                got = self._runner.infer(given)
            except Exception as error:
                raise OnnxRunError(
                    f"ONNX Runtime failed at {run.extents}: {first_line(error)}", "check the request's values"
                ) from error
        return {
            tensor.name: got[tensor.name].astype(tensor.numpy_dtype, copy=False)
            for tensor in self._manifest.outputs
        }

    def close(self) -> None:
        """End the session."""
        with quiet():
            self._runner.deactivate()
