"""torch → ONNX IR: torch's own exporter, with the custom operators as bare `nvfp4` nodes."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.onnx

from nvfp4_trt.errors import ExportFailedError
from nvfp4_trt.portable.functions import OPSET
from nvfp4_trt.exporting.translate import translation_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir
    from torch import nn

    from nvfp4_trt.exporting.dynamic import Axes, Batch


def trace(module: nn.Module, batch: Batch, axes: Axes) -> ir.Model:
    """Export a quantized module.

    Args:
        module: the module, in evaluation mode.
        batch: example inputs, by the names of the forward's parameters.
        axes: for each input, axis → dimension name; other axes keep the example's extents.

    Returns:
        A model whose `nvfp4` nodes have no function bodies yet.

    Raises:
        ExportFailedError: `torch.export` or the translation to ONNX refused the model.
    """
    shapes = {name: axes.get(name, {}) for name in batch} if axes else None
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                (),
                kwargs=dict(batch),
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table=translation_table(),
                dynamic_shapes=shapes,
                verbose=False,
            )
        except Exception as error:
            raise ExportFailedError(
                f"torch's exporter refused the model: {_root_cause(error)}",
                "the model must pass torch.export: no data-dependent control flow in its forward; "
                "--debug shows the whole trace",
            ) from error
    if program is None:
        raise ExportFailedError("torch's exporter returned no program", "update torch")
    return program.model


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about its own innards off the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.fx", "torch.export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
