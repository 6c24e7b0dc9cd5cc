"""What passes that make one GEMM of several end with: one name, and the columns given to who read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.passes.graph import constant, remove_unused, replace_uses
from nvfp4_trt.passes.plugin_nodes import forget

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from nvfp4_trt.passes.graph import Builder


def joined(layers: Sequence[str]) -> str:
    """Return one name for several layers: what they have in common once, then what each is called."""
    stems, leaves = zip(*(layer.rpartition(".")[::2] for layer in layers), strict=True)
    if len(set(stems)) > 1:
        return "+".join(layers)
    return f"{stems[0]}.{'+'.join(leaves)}" if stems[0] else "+".join(leaves)


def split_columns(
    build: Builder,
    whole: ir.Value,
    widths: Sequence[int],
    gemms: Sequence[ir.Node],
    feeding: Sequence[ir.Node | None] = (),
) -> None:
    """Let the columns of one GEMM stand for the results of several, and drop these with what only they read.

    Args:
        build: where the Split goes.
        whole: `[..., sum(widths)]`.
        widths: of each result, in the columns' order.
        gemms: nodes whose first outputs the parts replace.
        feeding: nodes that feed the GEMMs, last first.
    """
    sizes = constant(build.graph, f"{build.prefix}.widths", np.array(widths, np.int64))
    parts = build.node("Split", [whole, sizes], "Split", attributes={"axis": -1}, outputs=len(gemms)).outputs
    for gemm, part in zip(gemms, parts, strict=True):
        part.type, part.shape = gemm.outputs[0].type, gemm.outputs[0].shape
        replace_uses(build.graph, gemm.outputs[0], part)
    old = [node for node in (*gemms, *feeding) if node is not None]
    read = [value for node in old for value in node.inputs]
    remove_unused(build.graph, old)
    forget(build.graph, read)
