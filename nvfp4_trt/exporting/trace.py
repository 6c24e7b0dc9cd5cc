"""torch → ONNX IR: torch's own exporter, with the custom operators as bare `nvfp4` nodes."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.onnx
from torch.utils import _pytree as pytree

from nvfp4_trt.errors import ExportFailedError, Nvfp4Error
from nvfp4_trt.exporting.program import undecomposed
from nvfp4_trt.exporting.simplify import simplify
from nvfp4_trt.exporting.translate import translation_table
from nvfp4_trt.loading import check_runs, flatten_outputs
from nvfp4_trt.portable import OPSET

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir
    from torch import nn
    from torch.export import ExportedProgram

    from nvfp4_trt.exporting.dynamic import Axes, Batch


class Traced(NamedTuple):
    """A module as ONNX."""

    model: ir.Model
    """Its `nvfp4` nodes have no function bodies yet."""
    output_names: list[str]
    """As `loading.flatten_outputs` names what the module returns."""


def trace(module: nn.Module, batch: Batch, axes: Axes) -> Traced:
    """Export a quantized module.

    Args:
        module: the module, in evaluation mode.
        batch: example inputs, by the names of the forward's parameters.
        axes: for each input, axis → dimension name; other axes keep the example's extents.

    Raises:
        InputsMismatchError, ModelRunError: the module does not run on the batch.
        ExportFailedError: `torch.export` or the translation to ONNX refused the model.
    """
    shapes = {name: axes.get(name, {}) for name in batch} if axes else None
    with _quiet(), torch.no_grad():
        program = _program(module, batch, axes)
        outputs = [node.meta["val"] if node is not None else None for node in _output_nodes(program)]
        names = list(flatten_outputs(pytree.tree_unflatten(outputs, program.call_spec.out_spec)))
        light = undecomposed(program)
        if light is not None:
            try:
                return Traced(_to_onnx(light, batch, shapes), names)
            except torch.onnx.errors.OnnxExporterError:
                pass  # an operator that only its decomposition can be translated of
        try:
            return Traced(_to_onnx(program, batch, shapes), names)
        except Exception as error:
            raise _refused(error) from error


def _program(module: nn.Module, batch: Batch, axes: Axes) -> ExportedProgram:
    auto = {name: dict.fromkeys(axes.get(name, {}), torch.export.Dim.AUTO) for name in batch}
    try:
        return torch.export.export(module, (), dict(batch), dynamic_shapes=auto, strict=False)
    except Nvfp4Error:
        raise
    except Exception as error:
        check_runs(module, batch)  # says so more plainly, where the inputs are to blame
        raise _refused(error) from error


def _output_nodes(program: ExportedProgram) -> list[torch.fx.Node | None]:
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    nodes = {node.name: node for node in program.graph.nodes}
    user = program.graph_signature.user_outputs
    if len(output.args[0]) != len(user):
        raise ExportFailedError("the model changes one of its buffers", "make its forward free of side effects")
    return [nodes.get(str(name)) for name in user]


def _to_onnx(program: ExportedProgram, batch: Batch, shapes: dict[str, dict[int, str]] | None) -> ir.Model:
    exported = torch.onnx.export(
        program,
        (),
        kwargs=dict(batch),
        dynamo=True,
        opset_version=OPSET,
        custom_translation_table=translation_table(),
        dynamic_shapes=shapes,
        verbose=False,
        optimize=False,
    )
    if exported is None:
        raise ExportFailedError("torch's exporter returned no program", "update torch")
    simplify(exported.model)
    return exported.model


def _refused(error: BaseException) -> ExportFailedError:
    return ExportFailedError(
        f"torch's exporter refused the model: {_root_cause(error)}",
        "the model must pass torch.export: no data-dependent control flow in its forward; "
        "--debug shows the whole trace",
    )


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
