"""From the exporter's model to the finished portable one: names, shared quantizers, function bodies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from nvfp4_trt.errors import ExportFailedError
from nvfp4_trt.exporting.scopes import module_path
from nvfp4_trt.portable.functions import DOMAIN, VERSION, portable_functions
from nvfp4_trt.portable.sites import LAYER, find_sites, is_weight, layer_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from nvfp4_trt.portable.metadata import Metadata

IR_VERSION = 11


def finish(model: ir.Model, metadata: Metadata, output_names: Sequence[str], modules: Mapping[str, str]) -> None:
    """Turn the exporter's model into a portable one, in place.

    Args:
        model: what `trace` returned.
        metadata: of the file.
        output_names: of the graph's outputs.
        modules: each name by which a module can be reached → the first of them, which the table of layers has.

    Raises:
        ExportFailedError: the graph has other outputs than the module had.
    """
    graph = model.graph
    tidy(model, {layer.name for layer in metadata.layers}, modules)
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


def tidy(model: ir.Model, layers: Collection[str], modules: Mapping[str, str]) -> None:
    """Share what can be shared, remove what is unused, and name nodes and weights as in a finished file, in place.

    Args:
        model: what `trace` returned.
        layers: names of the layers that the file's table has.
        modules: see `finish`.
    """
    graph = model.graph
    _share_quantizers(graph)
    RemoveUnusedNodesPass()(model)
    _name_initializers(graph, modules)
    _name_weights(graph, layers, modules)
    _name_nodes(graph)


def _share_quantizers(graph: ir.Graph) -> None:
    """Give layers on one input one quantizer, also where their equal static scales are two tensors."""
    known: dict[tuple[object, ...], ir.Node] = {}
    for node in list(graph):
        if node.domain != DOMAIN or is_weight(node):
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


def _name_initializers(graph: ir.Graph, modules: Mapping[str, str]) -> None:
    """Name initializers after the module that owns them: torch takes the last of a module's names."""
    for value in list(graph.initializers.values()):
        module, _, leaf = (value.name or "").rpartition(".")
        name = f"{modules.get(module, module)}.{leaf}".removeprefix(".")
        if name not in graph.initializers:
            value.name = name


def _name_weights(graph: ir.Graph, layers: Collection[str], modules: Mapping[str, str]) -> None:
    """Note the layer on each node that dequantizes a weight which is stored under another layer's name."""
    for node in graph:
        if is_weight(node):
            path = module_path(node)
            layer = modules.get(path, path)
            if layer in layers and layer != layer_name(node):
                node.metadata_props[LAYER] = layer


def _name_nodes(graph: ir.Graph) -> None:
    """Name nodes `module.path/Operator` and their results alike; a GEMM is `<its layer>/MatMul`."""
    taken: Counter[str] = Counter()
    paths = _layer_paths(graph)
    for node in graph:
        path = paths.get(node) or module_path(node)
        base = f"{path}/{node.op_type}" if path else node.op_type
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"
        for index, value in enumerate(node.outputs):
            value.name = node.name if index == 0 else f"{node.name}.{index}"


def _layer_paths(graph: ir.Graph) -> dict[ir.Node, str]:
    """Return the paths of GEMMs, and of the quantizers in front of them, by the first layer that reads one."""
    paths: dict[ir.Node, str] = {}
    for site in find_sites(graph):
        paths[site.gemm] = site.layer
        quantizer = f"{site.layer}.input_quantizer".removeprefix(".")
        for node in (site.scale, site.quantize, site.activation):
            if node is not None:
                paths.setdefault(node, quantizer)
    return paths


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
        kept = {key: text for key, text in node.metadata_props.items() if key == LAYER}
        node.metadata_props.clear()
        node.metadata_props.update(kept)
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = model.doc_string = None
    model.graph.name = "main"
