"""Function bodies of the plugin operators in standard operators, for runtimes without the plugin.

A function has as many inputs and outputs as its node. Those of `Nvfp4Quantize` differ with its attributes, so
there is one function for each set of them that a model uses, told apart by ONNX's `overload`. Everything runs
in ONNX Runtime's CPU provider, which has no operator that shows the bits of an e4m3: a byte is computed from
its value, and looked up in a table the other way.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

from nvfp4_trt.passes.plugin_nodes import GEMM, PLUGIN_DOMAIN, QUANTIZE
from nvfp4_trt.portable import DOMAIN, OPSET, VERSION, decode_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_OPSETS = f'opset_import: ["" : {OPSET}, "{DOMAIN}" : {VERSION}]'
_HEAD = f'<domain: "{PLUGIN_DOMAIN}", {_OPSETS}>'

_CONSTANTS = """
  first = Constant<value_ints = [0]>()
  last = Constant<value_ints = [-1]>()
  two = Constant<value_ints = [2]>()
  three = Constant<value_ints = [3]>()
  four = Constant<value_ints = [4]>()
  eight = Constant<value_ints = [8]>()
  sixteen = Constant<value_ints = [16]>()
  group = Constant<value_ints = [32]>()
  rows_of_a_tile = Constant<value_ints = [128]>()
"""

_ONES = """
  width = Shape<start = -1>(x)
  one = Constant<value_float = 1.0>()
  weight_fp32 = Expand(one, width)
"""
_RESIDUAL = """
  other_fp32 = Cast<to = 1>(other)
  sum_fp32 = Add(x_fp32, other_fp32)
  {sum} = Cast<to = {dtype}>(sum_fp32)
  v = Cast<to = 1>({sum})
"""
# The operator rounds once, after weight and bias, as ONNX Runtime's kernel does for 16-bit types too.
_NORM = "y = {op}<axis = -1, epsilon: float = @epsilon>(v, weight_fp32{bias})"
_FUNCTIONS = {
    "none": "y = Identity(v)",
    "layer_norm": _NORM,
    "rms_norm": _NORM,
    "gelu": "y = Gelu(v)",
    "gelu_tanh": 'y = Gelu<approximate = "tanh">(v)',
    "silu": "sigmoid = Sigmoid(v)\n  y = Mul(v, sigmoid)",
    "silu_mul": """other_fp32 = Cast<to = 1>(other)
  sigmoid = Sigmoid(v)
  silu = Mul(v, sigmoid)
  y = Mul(silu, other_fp32)""",
    "relu": "y = Relu(v)",
}
_ALPHA = {
    "token": "alpha = nvfp4.PerTokenScale<arithmetic = 0>(values)",
    "tensor": """whole = nvfp4.PerTensorScale<arithmetic = 0>(values)
  alpha = Reshape(whole, one_number)""",
    "static": "alpha = Identity(scale)",
    "single": "alpha = Constant<value_floats = [1.0]>()",
}
_RULE = "floor = 0.0, zero_amax_scale = 0.0, zero_block_scale = 0.0, arithmetic = 0, unsigned_zero = 0"  # `spec`

# Codes: bytes of 128 and more are negative as INT8.
_CODES = """
  byte = Cast<to = 6>(packed)
  half = Constant<value_int = 127>()
  half_byte = Cast<to = 6>(half)
  whole_byte = Constant<value_int = 256>()
  full = Cast<to = 6>(whole_byte)
  high = Greater(byte, half_byte)
  below = Sub(byte, full)
  signed = Where(high, below, byte)
  codes = Cast<to = 3>(signed)
"""
# Bytes of e4m3 scales, none negative: 8 · (exponent + 6) + value / 2^(exponent - 3), where the exponent is -6
# for subnormals too. 0.04 keeps a logarithm that falls short of a whole number above it, and cannot lift
# log2(1.875) = 0.907 to 1; what is left of a wrong last bit goes in the rounding.
_BYTES = """
  value = Cast<to = 1>(block_scale)
  smallest_normal = Constant<value_float = 0.015625>()
  normal = Max(value, smallest_normal)
  natural = Log(normal)
  per_octave = Constant<value_float = 1.4426950408889634>()
  binary = Mul(natural, per_octave)
  slack = Constant<value_float = 0.04>()
  lifted = Add(binary, slack)
  exponent = Floor(lifted)
  base = Constant<value_float = 2.0>()
  octave = Pow(base, exponent)
  share = Div(value, octave)
  per_step = Constant<value_float = 8.0>()
  steps = Mul(share, per_step)
  mantissa = Round(steps)
  lowest = Constant<value_float = 6.0>()
  above_lowest = Add(exponent, lowest)
  high_bits = Mul(above_lowest, per_step)
  byte_or_nan = Add(high_bits, mantissa)
  is_nan = IsNaN(value)
  nan_byte = Constant<value_float = 127.0>()
  scale_byte = Where(is_nan, nan_byte, byte_or_nan)
"""
_SWIZZLE = """
  blocks = Shape<start = -1>(block_scale)
  rows_shape = Concat<axis = 0>(last, blocks)
  row_major = Reshape(scale_byte, rows_shape)
  m = Shape<start = 0, end = 1>(row_major)
  minus_m = Neg(m)
  more_rows = Mod(minus_m, rows_of_a_tile)
  minus_blocks = Neg(blocks)
  more_blocks = Mod(minus_blocks, four)
  pads = Concat<axis = 0>(first, first, more_rows, more_blocks)
  padded = Pad(row_major, pads)
  all_blocks = Add(blocks, more_blocks)
  across = Div(all_blocks, four)
  tile_shape = Concat<axis = 0>(last, four, group, across, four)
  apart = Reshape(padded, tile_shape)
  tiles = Transpose<perm = [0, 3, 2, 1, 4]>(apart)
  flat = Reshape(tiles, last)
  scales = Cast<to = 3>(flat)
"""

# Gather takes a negative index from the end, which is what the byte of a negative INT8 stands for.
_OPERAND = """
  {x}_lead_k = Shape<start = -1>({x})
  {x}_blocks = Div({x}_lead_k, eight)
  {x}_index = Cast<to = 6>({x})
  {x}_pairs = Gather(code_table, {x}_index)
  {x}_shape = Concat<axis = 0>(last, {x}_blocks, sixteen)
  {x}_block = Reshape({x}_pairs, {x}_shape)
  {x}_rows = Shape<start = 0, end = 1>({x}_block)
  {x}_up = Add({x}_blocks, three)
  {x}_across = Div({x}_up, four)
  {x}_columns = Mul({x}_across, four)
  {x}_tile_shape = Concat<axis = 0>(last, {x}_across, group, four, four)
  {x}_tiles = Reshape({x}_scales, {x}_tile_shape)
  {x}_apart = Transpose<perm = [0, 3, 2, 1, 4]>({x}_tiles)
  {x}_all_shape = Concat<axis = 0>(last, {x}_columns)
  {x}_all = Reshape({x}_apart, {x}_all_shape)
  {x}_starts = Concat<axis = 0>(first, first)
  {x}_ends = Concat<axis = 0>({x}_rows, {x}_blocks)
  {x}_bytes = Slice({x}_all, {x}_starts, {x}_ends)
  {x}_byte_index = Cast<to = 6>({x}_bytes)
  {x}_steps = Gather(scale_table, {x}_byte_index)
  {x}_step = Unsqueeze({x}_steps, last)
  {x}_scaled = Mul({x}_block, {x}_step)
  {x}_k = Mul({x}_blocks, sixteen)
  {x}_matrix_shape = Concat<axis = 0>(last, {x}_k)
  {x}_matrix = Reshape({x}_scaled, {x}_matrix_shape)
"""
_GEMM = """
  transposed = Transpose<perm = [1, 0]>(b_matrix)
  product = MatMul(a_matrix, transposed)
  column = Concat<axis = 0>(last, one_number)
  alpha_column = Reshape(alpha, column)
  by_alpha = Mul(product, alpha_column)
  {scaled} = Mul(by_alpha, beta)
  {biased}
  lead = Shape<start = 0, end = -1>(a)
  n = Shape<start = 0, end = 1>(b)
  out_shape = Concat<axis = 0>(lead, n)
  shaped = Reshape(whole, out_shape)
  out = Cast<to: int = @dtype>(shaped)
"""
_ONE_NUMBER = "\n  one_number = Constant<value_ints = [1]>()"


def quantize_function(
    attributes: Mapping[str, int | float | str], dtype: int, overload: str
) -> onnx.FunctionProto:
    """Return the body of `Nvfp4Quantize` nodes with these attributes.

    Args:
        attributes: of the node; `epsilon` stays an attribute of the function.
        dtype: ONNX's number of the element type of x.
        overload: which of the functions of that name it is.
    """
    has = {name: bool(attributes[name]) for name in attributes if name.startswith(("has_", "emit_"))}
    function, scaling = str(attributes["function"]), str(attributes["scaling"])
    other = has["has_residual"] or function == "silu_mul"
    present = {"other": other, "weight": has["has_weight"], "bias": has["has_bias"], "scale": scaling == "static"}
    inputs = ["x", *(name for name, there in present.items() if there)]
    outputs = ["codes", "scales", "alpha"]
    outputs += [name for name in ("values", "sum") if has[f"emit_{name}"]]
    head = f"{_HEAD} {QUANTIZE} <epsilon: float = 0.0> ({', '.join(inputs)}) => ({', '.join(outputs)})"
    body = [_CONSTANTS, _ONE_NUMBER, _before(function, has, dtype), f"\n  values = Cast<to = {dtype}>(y)\n  "]
    body += [_ALPHA[scaling], f"\n  packed, block_scale = nvfp4.Quantize<{_RULE}>(values, alpha)", _CODES, _BYTES]
    made = onnx.parser.parse_function(f"{head} {{{''.join(body)}{_SWIZZLE}}}")
    made.overload = overload
    return _finished(made)


def _before(function: str, has: Mapping[str, bool], dtype: int) -> str:
    """Return the part of the body that computes `y`, fp32, which is what is quantized."""
    widened = "x_fp32 = Cast<to = 1>(x)\n  v = Identity(x_fp32)"
    if has["has_residual"]:
        total = "sum" if has["emit_sum"] else "rounded_sum"
        widened = "x_fp32 = Cast<to = 1>(x)" + _RESIDUAL.format(sum=total, dtype=dtype)
    text = _FUNCTIONS[function]
    if function in {"layer_norm", "rms_norm"}:
        weight = "\n  weight_fp32 = Cast<to = 1>(weight)\n  " if has["has_weight"] else _ONES
        bias = "\n  bias_fp32 = Cast<to = 1>(bias)\n  " if has["has_bias"] else ""
        op = "LayerNormalization" if function == "layer_norm" else "RMSNormalization"
        text = weight + bias + text.format(op=op, bias=", bias_fp32" if has["has_bias"] else "")
    return f"\n  {widened}\n  {text}"


@cache
def gemm_function(overload: str, *, has_bias: bool) -> onnx.FunctionProto:
    """Return the body of `Nvfp4Gemm` nodes with or without a bias."""
    inputs = ["a", "a_scales", "alpha", "b", "b_scales", "beta", *(["bias"] if has_bias else [])]
    head = f"{_HEAD} {GEMM} <dtype: int = 1> ({', '.join(inputs)}) => (out)"
    biased = "bias_fp32 = Cast<to = 1>(bias)\n  whole = Add(scaled, bias_fp32)" if has_bias else ""
    tail = _GEMM.format(scaled="scaled" if has_bias else "whole", biased=biased)
    operands = "".join(_OPERAND.format(x=name) for name in ("a", "b"))
    made = onnx.parser.parse_function(f"{head} {{{_CONSTANTS}{_ONE_NUMBER}{operands}{tail}}}")
    tables = {"code_table": decode_table(), "scale_table": scale_table()}
    for name, table in tables.items():
        made.node.insert(0, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(table)))
    made.overload = overload
    return _finished(made)


def scale_table() -> NDArray[np.float32]:
    """Return the value of each e4m3 byte: fp32 `[256]`, NaN at 127 and 255."""
    return np.asarray(np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn), dtype=np.float32)


def _finished(function: onnx.FunctionProto) -> onnx.FunctionProto:
    """Name a function's nodes, and leave out the constants that it does not use."""
    read = {name for node in function.node for name in node.input}
    kept = [node for node in function.node if node.op_type != "Constant" or node.output[0] in read]
    made = onnx.FunctionProto()
    made.CopyFrom(function)
    del made.node[:]
    made.node.extend(kept)
    for node in made.node:
        node.name = f"{function.name}/{node.output[0]}"
    return made
