"""A `torch.export` program that is decomposed only where the ONNX exporter could not translate it whole.

Decomposing runs the whole graph once more through fake tensors: a quarter of an export's time on a BERT. The
exporter has translations for the operators that models are made of, so most graphs need the step for a few
trivial operators only, which are replaced here one by one.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import Graph, Node

    Simplify = Callable[[Node], bool]

_aten = torch.ops.aten


class Undecomposed(ExportedProgram):
    """An exported program that answers `run_decompositions` with itself."""

    def run_decompositions(self, *_args: Any, **_kwargs: Any) -> ExportedProgram:
        """Return the program as it is."""
        return self


def undecomposed(program: ExportedProgram) -> ExportedProgram | None:
    """Return the program in a form that needs no decomposition, or None where that cannot be told.

    The original is left as it is. The answer is None where an operator writes to its operands or holds a
    subgraph; an operator that the exporter cannot translate shows itself later, as its `ConversionError`.
    """
    if not all(_is_functional(node) for node in program.graph.nodes):
        return None
    copied = ExportedProgram(
        root=program.graph_module,
        graph=_copied(program.graph),
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )
    for node in list(copied.graph.nodes):
        simplify = _SIMPLER.get(node.target) if node.op == "call_function" else None
        if simplify is not None:
            simplify(node)
    copied.graph_module.recompile()
    copied.__class__ = Undecomposed
    return copied


def _copied(graph: Graph) -> Graph:
    """Return a graph with the same nodes under the same names; they share what their `meta` holds."""
    copied = copy.deepcopy(graph)
    for old, new in zip(graph.nodes, copied.nodes, strict=True):
        new.name = old.name  # a copy renames what is also the name of a Python function, such as `input`
    return copied


def _is_functional(node: Node) -> bool:
    if node.op in {"placeholder", "output"}:
        return True
    target = node.target
    if node.op != "call_function":
        return False
    if isinstance(target, torch._ops.OpOverload):  # noqa: SLF001 (torch's only name for it)
        return not target._schema.is_mutable  # noqa: SLF001
    return not isinstance(target, torch._ops.HigherOrderOperator)  # noqa: SLF001


def _forward_input(node: Node) -> bool:
    """Replace a node by its first operand."""
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    node.graph.erase_node(node)
    return True


def _dropout(node: Node) -> bool:
    training = node.args[2] if len(node.args) > 2 else node.kwargs.get("train", True)  # noqa: PLR2004
    return _forward_input(node) if not training else False


def _to(node: Node) -> bool:
    """`x.to(...)` is a cast where the dtype changes, else `x`."""
    source, result = node.args[0], node.meta["val"]
    before = source.meta["val"]  # type: ignore[union-attr]
    if before.dtype == result.dtype:
        return _forward_input(node)
    with node.graph.inserting_before(node):
        cast = node.graph.call_function(_aten._to_copy.default, (source,), {"dtype": result.dtype})  # noqa: SLF001
    cast.meta = dict(node.meta)
    node.replace_all_uses_with(cast)
    node.graph.erase_node(node)
    return True


def _and(node: Node) -> bool:
    node.target = _aten.bitwise_and.Tensor
    return True


def _or(node: Node) -> bool:
    node.target = _aten.bitwise_or.Tensor
    return True


def _reshape(node: Node) -> bool:
    node.target = _aten.view.default
    return True


def _slice(node: Node) -> bool:
    """`x[:]` along an axis is `x`."""
    start, end, step = (*node.args[2:], *(None,) * 3)[:3]
    whole = start in {None, 0} and (end is None or end == _TO_THE_END) and step in {None, 1}
    return _forward_input(node) if whole else False


def _erase(node: Node) -> bool:
    node.graph.erase_node(node)
    return True


_TO_THE_END = 2**63 - 1
_SIMPLER: dict[Any, Simplify] = {
    _aten.dropout.default: _dropout,
    _aten.to.dtype: _to,
    _aten.to.dtype_layout: _to,
    _aten.to.device: _to,
    _aten.to.other: _to,
    _aten.contiguous.default: _forward_input,
    _aten.detach.default: _forward_input,
    _aten.alias.default: _forward_input,
    _aten.__and__.Tensor: _and,
    _aten.__or__.Tensor: _or,
    _aten.reshape.default: _reshape,
    _aten.slice.Tensor: _slice,
    _aten._assert_tensor_metadata.default: _erase,  # noqa: SLF001
}
