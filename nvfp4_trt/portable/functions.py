"""The `nvfp4` ONNX operators and their portable bodies: the number format in standard ONNX operators.

Each function computes `format` bit for bit, with operators that ONNX Runtime has CPU kernels for (it has
none that touch FLOAT4E2M1, so codes travel as packed uint8). Operators of domain `nvfp4`, version 1, with
`K` the last axis, a multiple of 16:

| operator | inputs | outputs |
|---|---|---|
| PerTensorScale | x `[...]` | scale fp32 `[]` |
| PerTokenScale | x `[..., K]` | scale fp32 `[..., 1]` |
| Quantize(floor, zero_block_scale) | x `[..., K]`, scale `[]` or `[..., 1]` | packed uint8 `[..., K/2]`, block_scale e4m3 `[..., K/16]` |
| QuantizeSingleLevel(floor, zero_block_scale) | x `[..., K]` | packed, block_scale |
| Dequantize(dtype) | packed, block_scale, scale | values `[..., K]` of `dtype` |
| DequantizeSingleLevel(dtype) | packed, block_scale | values `[..., K]` of `dtype` |
"""  # noqa: E501 (a table's row is one line)

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

DOMAIN = "nvfp4"
VERSION = 1
OPSET = 23

_HEAD = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}, "{DOMAIN}" : {VERSION}]>'

# Widen to fp32; NaN counts as zero in an amax (it poisons its own block alone), infinity as the largest.
_CLEAN = """
  v = Cast<to = 1>(x)
  nan = IsNaN(v)
  zero = Constant<value_float = 0.0>()
  top = Constant<value_float = 3.4028234663852886e38>()
  bottom = Constant<value_float = -3.4028234663852886e38>()
  bounded = Clip(v, bottom, top)
  clean = Where(nan, zero, bounded)
"""

# 6.018531076210112e-36 is 2^-117: below it, (1 / s_t) / s_b could overflow (see nvfp4_trt.format).
_SCALE = """
  span = Constant<value_float = 2688.0>()
  quotient = Div(amax, span)
  least = Constant<value_float = 6.018531076210112e-36>()
  one = Constant<value_float = 1.0>()
  tiny = Less(quotient, least)
  scale = Where(tiny, one, quotient)
"""

_PER_TENSOR_SCALE = f"""{_HEAD}
PerTensorScale (x) => (scale) {{{_CLEAN}
  magnitude = Abs(clean)
  amax = ReduceMax<keepdims = 0>(magnitude)
{_SCALE}}}
"""

_PER_TOKEN_SCALE = f"""{_HEAD}
PerTokenScale (x) => (scale) {{{_CLEAN}
  magnitude = Abs(clean)
  last = Constant<value_ints = [-1]>()
  amax = ReduceMax<keepdims = 1>(magnitude, last)
{_SCALE}}}
"""

_QUANTIZE = f"""{_HEAD}
Quantize <floor: float = 0.0, zero_block_scale: float = 0.0> (x, scale) => (packed, block_scale) {{{_CLEAN}
  lead = Shape<start = 0, end = -1>(v)
  last = Constant<value_ints = [-1]>()
  tail = Constant<value_ints = [-1, 16]>()
  blocked_shape = Concat<axis = 0>(lead, tail)
  block = Reshape(clean, blocked_shape)
  nan_number = Cast<to = 1>(nan)
  nan_block = Reshape(nan_number, blocked_shape)
  nan_any = ReduceMax<keepdims = 1>(nan_block, last)
  poisoned = Cast<to = 9>(nan_any)
  magnitude = Abs(block)
  amax = ReduceMax<keepdims = 1>(magnitude, last)
  six = Constant<value_float = 6.0>()
  per_code = Div(amax, six)
  scale_column = Unsqueeze(scale, last)
  wanted = Div(per_code, scale_column)
  floor_value = Constant<value_float: float = @floor>()
  largest = Constant<value_float = 448.0>()
  in_range = Clip(wanted, floor_value, largest)
  rounded_e4m3 = Cast<to = 17>(in_range)
  rounded = Cast<to = 1>(rounded_e4m3)
  is_zero = Equal(rounded, zero)
  zero_value = Constant<value_float: float = @zero_block_scale>()
  finite_scale = Where(is_zero, zero_value, rounded)
  not_a_number = Constant<value_float = nan>()
  scale_or_nan = Where(poisoned, not_a_number, finite_scale)
  scale_row = Squeeze(scale_or_nan, last)
  block_scale = Cast<to = 17>(scale_row)
  one = Constant<value_float = 1.0>()
  inverse = Div(one, scale_column)
  factor = Div(inverse, finite_scale)
  scaled = Mul(block, factor)
  size = Abs(scaled)
  y = Min(size, six)
  half = Constant<value_float = 0.5>()
  two = Constant<value_float = 2.0>()
  four = Constant<value_float = 4.0>()
  y_fine = Mul(y, two)
  step_half = Round(y_fine)
  y_round = Round(y)
  step_one = Add(y_round, two)
  y_coarse = Mul(y, half)
  y_coarse_round = Round(y_coarse)
  step_two = Add(y_coarse_round, four)
  code = Min(step_half, step_one, step_two)
  below = Less(block, zero)
  reciprocal = Div(one, block)
  below_or_minus_zero = Less(reciprocal, zero)
  negative = Or(below, below_or_minus_zero)
  sign = Cast<to = 1>(negative)
  eight = Constant<value_float = 8.0>()
  sign_bit = Mul(sign, eight)
  signed_code = Add(code, sign_bit)
  no_scale = Equal(finite_scale, zero)
  blank = Or(poisoned, no_scale)
  final_code = Where(blank, zero, signed_code)
  pair_tail = Constant<value_ints = [-1, 2]>()
  pair_shape = Concat<axis = 0>(lead, pair_tail)
  pair = Reshape(final_code, pair_shape)
  place = Constant<value_floats = [1.0, 16.0]>()
  placed = Mul(pair, place)
  byte = ReduceSum<keepdims = 0>(placed, last)
  packed = Cast<to = 2>(byte)
}}
"""

_DEQUANTIZE = f"""{_HEAD}
Dequantize <dtype: int = 1> (packed, block_scale, scale) => (y) {{
  last = Constant<value_ints = [-1]>()
  byte = Cast<to = 6>(packed)
  pair = Gather(table, byte)
  lead = Shape<start = 0, end = -1>(packed)
  tail = Constant<value_ints = [-1, 16]>()
  blocked_shape = Concat<axis = 0>(lead, tail)
  block = Reshape(pair, blocked_shape)
  block_scale_row = Cast<to = 1>(block_scale)
  block_scale_column = Unsqueeze(block_scale_row, last)
  scaled = Mul(block, block_scale_column)
  scale_column = Unsqueeze(scale, last)
  value = Mul(scaled, scale_column)
  flat_shape = Concat<axis = 0>(lead, last)
  flat = Reshape(value, flat_shape)
  y = Cast<to: int = @dtype>(flat)
}}
"""


def _single_level(text: str, name: str) -> str:
    """Return the body of a two-level operator with its scale the constant 1 (an inlined call would hide types)."""
    signature, body = text.split(") {", 1)
    signature = signature.replace(f"{name} ", f"{name}SingleLevel ").replace(", scale)", ")")
    return f"{signature}) {{\n  scale = Constant<value_float = 1.0>(){body}"


def e2m1_values() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the value of each e2m1 code: fp32 `[16]`."""
    return np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def decode_table() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the two values of each packed byte, low nibble first: fp32 `[256, 2]`."""
    values = e2m1_values()
    byte = np.arange(256)
    return np.stack([values[byte & 0xF], values[byte >> 4]], axis=1)


@cache
def portable_functions() -> dict[str, onnx.FunctionProto]:
    """Return the portable body of each operator of domain `nvfp4`, by operator name."""
    texts = (
        _PER_TENSOR_SCALE,
        _PER_TOKEN_SCALE,
        _QUANTIZE,
        _single_level(_QUANTIZE, "Quantize"),
        _DEQUANTIZE,
        _single_level(_DEQUANTIZE, "Dequantize"),
    )
    functions = {function.name: function for function in map(onnx.parser.parse_function, texts)}
    table = helper.make_node("Constant", [], ["table"], value=numpy_helper.from_array(decode_table()))
    for name in ("Dequantize", "DequantizeSingleLevel"):
        functions[name].node.insert(0, table)
    for function in functions.values():
        _name_nodes(function)
    return functions


def _name_nodes(function: onnx.FunctionProto) -> None:
    for node in function.node:
        node.name = f"{function.name}/{node.output[0]}"
