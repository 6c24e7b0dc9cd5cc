"""An exported file on ONNX Runtime's CPU provider, as a Polygraphy runner."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import onnx_ir as ir
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import OnnxRunError
from nvfp4_trt.runners.quiet import quiet
from nvfp4_trt.runners.widen import holds_bf16, widen

if TYPE_CHECKING:
    import onnxruntime

_MIN_EXTERNAL = 1024


def onnx_runner(path: Path, model: ir.Model, *, name: str = "onnxruntime") -> OnnxrtRunner:
    """Return a Polygraphy runner over a session that has been opened.

    ONNX Runtime's CPU provider has next to no bf16 kernels, so a file that computes in bf16 is run as a
    copy made by `widen`, whose inputs and outputs are fp32.

    Args:
        path: the file.
        model: what `portable.load` made of it; changed where it holds bf16.
        name: the runner's name in Polygraphy's results.

    Raises:
        OnnxRunError: ONNX Runtime refused the file.
    """
    if not holds_bf16(model):
        return OnnxrtRunner(_session(path, path), name=name)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "widened.onnx"
        widen(model)
        ir.save(model, copy, external_data="widened.data", size_threshold_bytes=_MIN_EXTERNAL)
        return OnnxrtRunner(_session(copy, path), name=name)


def _session(path: Path, named: Path) -> onnxruntime.InferenceSession:
    with quiet():
        try:
            return SessionFromOnnx(str(path), providers=["CPUExecutionProvider"])()
        except Exception as error:
            raise OnnxRunError(
                f"ONNX Runtime refused {named}: {first_line(error)}",
                "update onnxruntime (pip install -U onnxruntime), or export the file again",
            ) from error
