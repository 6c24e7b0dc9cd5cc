"""Function bodies of the TensorRT dialect: what TensorRT inlines, and what says its quantizer's meaning."""

from __future__ import annotations

from functools import cache

import onnx
import onnx.parser
import onnx_ir as ir

from nvfp4_trt.portable import DOMAIN, OPSET, e2m1_values, portable_functions

TRT_DOMAIN = "trt"
TRT_QUANTIZE = "TRT_FP4DynamicQuantize"

# Operators that TensorRT fuses with the norm or activation in front: a Where instead of the Clip costs a
# kernel for each quantizer. The lower bound is 2^-117 times the span (the portable form has the scale 1 below it;
# either way all codes but those of such denormal rows are zero). NaN is not told apart here: it reaches the
# whole row (per token) or tensor, where the portable form keeps it to its block of 16. A maximum is exact in any
# dtype, so it is taken in the activation's: of a Cast in front of it, TensorRT would keep the fp32 tensor for the
# kernel that quantizes.
_SCALE = """
  magnitude = Abs(x)
  {reduce}
  wide = Cast<to = 1>(peak)
  least = Constant<value_float = {least}>()
  most = Constant<value_float = 3.4028234663852886e38>()
  amax = Clip(wide, least, most)
  span = Constant<value_float = {span}>()
  scale = Div(amax, span)
"""
_PER_ROW = """last = Constant<value_ints = [-1]>()
  peak = ReduceMax<keepdims = 1>(magnitude, last)"""
# First over K, then over rows: eight kernels a layer fewer than one reduction over everything.
_PER_TENSOR = """last = Constant<value_ints = [-1]>()
  rows = ReduceMax<keepdims = 0>(magnitude, last)
  peak = ReduceMax<keepdims = 0>(rows)"""
_HEAD = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>'

_NVFP4_SPAN, _FP8_SPAN = 2688.0, 448.0
"""The largest magnitude that a scale of 1 reaches."""
_LEAST = 2.0**-117

_ZERO: dict[int, float] = {onnx.AttributeProto.FLOAT: 0.0, onnx.AttributeProto.INT: 0}


@cache
def scale_functions() -> dict[str, onnx.FunctionProto]:
    """Return the bodies that the run-time scales have inside TensorRT, by operator name."""
    bodies = {
        "PerTokenScale": (_PER_ROW, _NVFP4_SPAN),
        "PerTensorScale": (_PER_TENSOR, _NVFP4_SPAN),
        "Fp8TokenScale": (_PER_ROW, _FP8_SPAN),
        "Fp8TensorScale": (_PER_TENSOR, _FP8_SPAN),
    }
    functions = {}
    for name, (reduce, span) in bodies.items():
        body = _SCALE.format(reduce=reduce, span=span, least=_LEAST * span)
        functions[name] = onnx.parser.parse_function(f"{_HEAD} {name} (x) => (scale) {{{body}}}")
    for function in functions.values():
        for node in function.node:
            node.name = f"{function.name}/{node.output[0]}"
    return functions


@cache
def _quantize_function() -> onnx.FunctionProto:
    """Say in standard operators what TensorRT's quantizer computes, giving FLOAT4E2M1 codes."""
    body = portable_functions()["Quantize"]
    made = onnx.FunctionProto()
    made.CopyFrom(body)
    made.domain, made.name = TRT_DOMAIN, TRT_QUANTIZE
    del made.attribute_proto[:], made.output[:], made.opset_import[:]
    made.attribute.extend(["axis", "block_size", "scale_type"])
    made.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    made.output.extend(["codes", "block_scale"])
    # The portable body ends by putting two codes in a byte; here the codes' values leave as FLOAT4E2M1.
    kept = [node for node in made.node if node.output[0] not in _PACKING]
    for node in kept:
        for attribute in node.attribute:
            if attribute.ref_attr_name:  # the scale rule: TensorRT follows `spec`, whose attributes are all 0
                attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, _ZERO[attribute.type]))
            if attribute.name == "value_float":  # of which GraphSurgeon makes a double
                number = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [], [attribute.f])
                attribute.CopyFrom(onnx.helper.make_attribute("value", number))
    del made.node[:]
    made.node.extend(kept)
    table = onnx.helper.make_tensor("values", onnx.TensorProto.FLOAT, [16], e2m1_values())
    tail = [
        onnx.helper.make_node("Constant", [], ["value_table"], value=table),
        onnx.helper.make_node("Cast", ["final_code"], ["index"], to=onnx.TensorProto.INT32),
        onnx.helper.make_node("Gather", ["value_table", "index"], ["value_block"]),
        onnx.helper.make_node("Shape", ["v"], ["flat_shape"]),
        onnx.helper.make_node("Reshape", ["value_block", "flat_shape"], ["value"]),
        onnx.helper.make_node("Cast", ["value"], ["codes"], to=onnx.TensorProto.FLOAT4E2M1),
    ]
    made.node.extend(tail)
    return made


_PACKING = {"pair_tail", "pair_shape", "pair", "place", "placed", "byte", "packed"}


def trt_functions() -> list[ir.Function]:
    """Return new functions for the operators of domain `trt` that a lowered model uses."""
    return [ir.serde.deserialize_function(_quantize_function())]
