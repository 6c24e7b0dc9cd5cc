"""From the exporter's model to the finished portable one: names, shared quantizers, function bodies."""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from nvfp4_trt.errors import ExportFailedError
from nvfp4_trt.portable.functions import DOMAIN, VERSION, portable_functions
from nvfp4_trt.portable.sites import find_sites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.portable.metadata import Metadata

IR_VERSION = 11
_SCOPES = "pkg.torch.onnx.name_scopes"


def finish(model: ir.Model, metadata: Metadata, output_names: Sequence[str]) -> None:
    """Turn the exporter's model into a portable one, in place.

    Raises:
        ExportFailedError: the graph has other outputs than the module had.
    """
    graph = model.graph
    _share_quantizers(graph)
    RemoveUnusedNodesPass()(model)
    _name_nodes(graph)
    _name_outputs(graph, output_names)
    _strip(model)
    graph.opset_imports[DOMAIN] = VERSION
    used = {node.op_type for node in graph if node.domain == DOMAIN}
    for name in sorted(used):
        function = ir.serde.deserialize_function(portable_functions()[name])
        model.functions[function.identifier()] = function
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "nvfp4-trt", metadata.versions["nvfp4-trt"]
    model.metadata_props.clear()
    model.metadata_props.update(metadata.as_props())


def _share_quantizers(graph: ir.Graph) -> None:
    """Give layers on one input one quantizer, also where their equal static scales are two tensors."""
    known: dict[tuple[object, ...], ir.Node] = {}
    for node in list(graph):
        if node.domain != DOMAIN:
            continue
        attributes = tuple(sorted((a.name, str(a.value)) for a in node.attributes.values()))
        key = (node.op_type, attributes, *(_identity(value) for value in node.inputs))
        first = known.setdefault(key, node)
        if first is not node:
            for old, new in zip(node.outputs, first.outputs, strict=True):
                old.replace_all_uses_with(new)
            graph.remove(node, safe=True)


def _identity(value: ir.Value | None) -> object:
    if value is not None and value.const_value is not None and value.const_value.size == 1:
        return value.const_value.tobytes(), value.dtype
    return value


def _name_nodes(graph: ir.Graph) -> None:
    """Name nodes `module.path/Operator` and their results alike; a GEMM is `<its layer>/MatMul`."""
    taken: Counter[str] = Counter()
    gemms = {site.gemm: site.layer for site in find_sites(graph)}
    for node in graph:
        path = gemms.get(node) or _module_path(node)
        base = f"{path}/{node.op_type}" if path else node.op_type
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"
        for index, value in enumerate(node.outputs):
            value.name = node.name if index == 0 else f"{node.name}.{index}"


def _module_path(node: ir.Node) -> str:
    text = node.metadata_props.get(_SCOPES)
    if not text:
        return ""
    scopes = [scope for scope in ast.literal_eval(text)[:-1] if scope and not scope.startswith("_")]
    return str(scopes[-1]) if scopes else ""


def _name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    if len(names) != len(graph.outputs):
        raise ExportFailedError(
            f"the exported graph has {len(graph.outputs)} outputs, the model {len(names)} ({', '.join(names)})",
            "let the model return tensors, or a tuple, list or dict of them",
        )
    for value, name in zip(graph.outputs, names, strict=True):
        if value.producer() is not None:
            value.name = name


def _strip(model: ir.Model) -> None:
    """Drop stack traces and file paths: they differ from machine to machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = model.doc_string = None
    model.graph.name = "main"
