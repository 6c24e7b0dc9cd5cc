"""A traced torch module → the facts of products that are no module's: attention's, and what functions multiply."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.checking.graphs import facts_of, stem_of
from nvfp4_trt.exporting.finish import tidy
from nvfp4_trt.exporting.scopes import first_names
from nvfp4_trt.exporting.trace import trace
from nvfp4_trt.quantization.convert import open_attention

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import nn

    from nvfp4_trt.checking.facts import Facts
    from nvfp4_trt.loading import Batch

_KEPT_BYTES = 1024
_FUNCTION = "its weight is no linear layer's: a function in the forward multiplies by it"


def product_facts(module: nn.Module, batch: Batch, known: Collection[str]) -> Iterator[Facts]:
    """Yield the facts of the products that no module stands for, in the order of the graph that export writes.

    Args:
        module: it stays as it is; a copy that shares its weights is traced, and no weight is read.
        batch: example inputs by the forward's parameter names.
        known: names of the layers that have facts already.

    Raises:
        InputsMismatchError, ModelRunError, ExportFailedError: see `exporting.trace`.
    """
    shared: dict[int, object] = {id(held): held for held in (*module.parameters(), *module.buffers())}
    opened = open_attention(copy.deepcopy(module, shared))
    traced = trace(opened, batch, {}).model
    tidy(traced, known, first_names(opened))
    for name, value in traced.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _KEPT_BYTES:
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor("", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
    for facts in facts_of(ir.serde.serialize_model(traced)):
        if facts.name not in known and stem_of(facts) not in known:
            weight = any(side.constant for side in facts.operands) or (facts.window is not None)
            yield replace(facts, quantized_file=False, told=_FUNCTION if weight else "")
