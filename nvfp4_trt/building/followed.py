"""What a graph that contradicts itself ends as, wherever it is lowered: one error that names the file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from nvfp4_trt.errors import OnnxInvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONTRADICTIONS = (
    ValueError,
    IndexError,
    KeyError,
    ZeroDivisionError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ir.serde.SerdeError,
)
"""What lowering and checking raise of a graph that was edited: passes take for granted what the exporter makes."""


@contextlib.contextmanager
def lowering_of(source: Path) -> Iterator[None]:
    """Tell what a portable file's graph does to its lowering.

    Raises:
        OnnxInvalidError: in place of any of those.
    """
    try:
        yield
    except _CONTRADICTIONS as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise OnnxInvalidError(
            f"{source} cannot be lowered: {lines[0]}", "run onnx.checker on it, or export it again"
        ) from error
