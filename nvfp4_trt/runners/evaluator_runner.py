"""ONNX's own reference evaluator as a Polygraphy runner: slow, and it runs FLOAT4E2M1."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
import onnx.inliner
from onnx.reference import ReferenceEvaluator
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from nvfp4_trt.errors import OnnxRunError

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.runners.arrays import Feed


class EvaluatorRunner(BaseRunner):  # type: ignore[misc] # Polygraphy has no types
    """Runs a file in NumPy, its functions inlined. bf16 inputs and outputs are fp32 on the outside.

    Args:
        path: of an ONNX file.
        name: the runner's name in Polygraphy's results.
    """

    def __init__(self, path: Path, *, name: str = "evaluator") -> None:
        super().__init__(name=name, prefix="evaluator-runner")
        self._path = path

    def activate_impl(self) -> None:
        """Read the file.

        Raises:
            OnnxRunError: it has an operator that the evaluator does not know.
        """
        model = onnx.inliner.inline_local_functions(onnx.load(self._path))
        try:
            self.evaluator = ReferenceEvaluator(model)
        except (NotImplementedError, RuntimeError, TypeError) as error:
            raise OnnxRunError(
                f"ONNX's reference evaluator refused {self._path}: {error}".splitlines()[0],
                "give a file that nvfp4-trt exported or lowered",
            ) from error

    def get_input_metadata_impl(self) -> TensorMetadata:
        """Return names, dtypes and shapes of the inputs."""
        metadata = TensorMetadata()
        for value in self.evaluator.proto_.graph.input:
            kind = value.type.tensor_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
            metadata.add(value.name, dtype=_outside(dtype), shape=shape)
        return metadata

    def infer_impl(self, feed_dict: Feed) -> Feed:
        """Run once.

        Raises:
            OnnxRunError: a node failed.
        """
        inside = {value.name: value.type.tensor_type.elem_type for value in self.evaluator.proto_.graph.input}
        feed = {
            name: array.astype(onnx.helper.tensor_dtype_to_np_dtype(inside[name]), copy=False)
            for name, array in feed_dict.items()
            if name in inside
        }
        start = time.perf_counter()
        try:
            with np.errstate(all="ignore"):  # the bodies' masked branches divide by zero
                arrays = self.evaluator.run(None, feed)
        except Exception as error:  # any node's
            raise OnnxRunError(
                f"ONNX's reference evaluator failed in {self._path}: {error}".splitlines()[0],
                "check the shapes and ranges of the inputs",
            ) from error
        self.inference_time = time.perf_counter() - start
        return {
            name: array.astype(_outside(array.dtype), copy=False)
            for name, array in zip(self.evaluator.output_names, arrays, strict=True)
        }

    def deactivate_impl(self) -> None:
        """Let go of the model."""
        del self.evaluator


def _outside(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return fp32 for bf16, which Polygraphy knows no NumPy dtype of."""
    return np.dtype(np.float32) if dtype == np.dtype(ml_dtypes.bfloat16) else dtype
