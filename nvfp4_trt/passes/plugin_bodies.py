"""Function bodies for the plugin nodes of a model: put in for other runtimes, taken out for TensorRT's parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.plugin_functions import gemm_function, quantize_function
from nvfp4_trt.passes.plugin_nodes import GEMM, PLUGIN_DOMAIN, is_plugin
from nvfp4_trt.portable import DOMAIN, VERSION, portable_functions

if TYPE_CHECKING:
    import onnx

_CALLED = ("PerTensorScale", "PerTokenScale", "Quantize")
_FLAGS = ("has_residual", "has_weight", "has_bias", "emit_values", "emit_sum")


class PluginBodies(LoweringPass):
    """Gives every plugin node a function body, so that checkers and other runtimes take the file.

    Needs: all else has run. After: each plugin node names, as its `overload`, a model-local function in
    standard operators and the `nvfp4` ones, whose portable bodies are in the model too. TensorRT's parser
    prefers a function to a plugin of the same name: it gets a model that `strip_plugin_functions` has been over.
    Meaning: unchanged.
    """

    name = "plugin-bodies"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [node for node in model.graph if is_plugin(node)]
        made: dict[str, onnx.FunctionProto] = {}
        for node in found:
            node.overload = _overload(node)
            if node.overload not in made:
                made[node.overload] = _function(node)
        protos = list(made.values())
        protos += [portable_functions()[name] for name in _CALLED] if found else []
        for proto in protos:
            function = ir.serde.deserialize_function(proto)
            model.functions[function.identifier()] = function
        if found:
            model.graph.opset_imports[DOMAIN] = VERSION
        return len(found)


def strip_plugin_functions(model: ir.Model) -> None:
    """Take the bodies of plugin nodes out of a model, in place, as TensorRT's parser needs it.

    Args:
        model: what `lower(model, plugin=True)` made.
    """
    for node in model.graph.all_nodes():
        if is_plugin(node):
            node.overload = ""
    for key in list(model.functions):
        if key[0] in {PLUGIN_DOMAIN, DOMAIN}:
            del model.functions[key]
    model.graph.opset_imports.pop(DOMAIN, None)


def _overload(node: ir.Node) -> str:
    """Return a name for all by which bodies differ, such as `token.rms_norm.weight.sum.float16`."""
    if node.op_type == GEMM:
        return "bias" if node.attributes.get_int("has_bias", 0) else "plain"
    parts = [node.attributes.get_string("scaling") or "", node.attributes.get_string("function") or ""]
    parts += [flag.partition("_")[2] for flag in _FLAGS if node.attributes.get_int(flag, 0)]
    return ".".join([*parts, _dtype(node).name.lower()])


def _dtype(node: ir.Node) -> ir.DataType:
    x = node.inputs[0]
    if x is None or x.dtype is None:
        raise ValueError(f"{node.name} has no typed input")
    return x.dtype


def _function(node: ir.Node) -> onnx.FunctionProto:
    overload = node.overload or ""
    if node.op_type == GEMM:
        return gemm_function(overload, has_bias=bool(node.attributes.get_int("has_bias", 0)))
    attributes: dict[str, int | float | str] = {name: node.attributes.get_int(name, 0) for name in _FLAGS}
    for name in ("scaling", "function"):
        attributes[name] = node.attributes.get_string(name) or ""
    return quantize_function(attributes, int(_dtype(node)), overload)
