"""The runner of any ONNX file on a CPU: ONNX Runtime where it can, and else ONNX's reference evaluator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.portable import read_any
from nvfp4_trt.runners.evaluator_runner import EvaluatorRunner
from nvfp4_trt.runners.onnx_runner import onnx_runner

if TYPE_CHECKING:
    from pathlib import Path

    from polygraphy.backend.base import BaseRunner


def file_runner(path: Path) -> BaseRunner:
    """Return a runner of a file, with a session that is open where ONNX Runtime runs it.

    ONNX Runtime's CPU has no kernels for FLOAT4E2M1, which lowered files hold, and next to none for bf16, for
    which `onnx_runner` makes a copy.

    Args:
        path: an ONNX file, ours or not.

    Raises:
        NotAModelError: it is not ONNX.
        OnnxRunError: ONNX Runtime refused it.
    """
    model = read_any(path)
    if any(value.dtype == ir.DataType.FLOAT4E2M1 for value in model.graph.initializers.values()):
        return EvaluatorRunner(path)
    return onnx_runner(path, model)
