"""The `nvfp4` ONNX operators and their portable bodies: the number format in standard ONNX operators.

Each function computes `format` bit for bit, with operators that ONNX Runtime has CPU kernels for (it has
none that touch FLOAT4E2M1, so codes travel as packed uint8). Operators of domain `nvfp4`, version 1, with
`K` the last axis, a multiple of 16:

| operator | inputs | outputs |
|---|---|---|
| PerTensorScale(arithmetic) | x `[...]` | scale fp32 `[]` |
| PerTokenScale(arithmetic) | x `[..., K]` | scale fp32 `[..., 1]` |
| Quantize(*rule*) | x `[..., K]`, scale `[]` or `[..., 1]` | packed uint8 `[..., K/2]`, block_scale e4m3 `[..., K/16]` |
| QuantizeSingleLevel(*rule*) | x `[..., K]` | packed, block_scale |
| Dequantize(dtype) | packed, block_scale, scale | values `[..., K]` of `dtype` |
| DequantizeSingleLevel(dtype) | packed, block_scale | values `[..., K]` of `dtype` |
| Fp8TensorScale | x `[...]` | scale fp32 `[]` |
| Fp8TokenScale | x `[..., K]` | scale fp32 `[..., 1]` |
| Fp8Quantize | x `[..., K]`, scale `[]` or `[..., 1]` | codes e4m3 `[..., K]` |
| Fp8Dequantize(dtype) | codes, scale `[]`, `[..., 1]` or, of a weight, `[N, 1]` | values `[..., K]` of `dtype` |

*rule* is a `format.ScaleRule` as attributes, each 0 by default, which is the rule `spec`: floats `floor`,
`zero_amax_scale` and `zero_block_scale`; ints `arithmetic` (see `ARITHMETIC`) and `unsigned_zero` (1 where -0.0
loses its sign).
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
BLOCK = 16
"""Elements along K that share a block scale."""

ARITHMETIC = {"reciprocal": 0, "product": 1, "global": 2}
"""The value of the attribute `arithmetic` for each order of operations, by `format.Arithmetic`'s values."""

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

# Reciprocal and not a division of 1: ONNX Runtime turns `1 / a * b` into `b / a`, which rounds once less.
# 6.018531076210112e-36 is 2^-117: below it, (1 / s_t) / s_b could overflow (see nvfp4_trt.format).
_SCALE = """
  span = Constant<value_float = 2688.0>()
  quotient = Div(amax, span)
  least = Constant<value_float = 6.018531076210112e-36>()
  one = Constant<value_float = 1.0>()
  tiny = Less(quotient, least)
  scale_first = Where(tiny, one, quotient)
  arithmetic_value = Constant<value_int: int = @arithmetic>()
  global = Constant<value_int = 2>()
  is_global = Equal(arithmetic_value, global)
  amax_inverse = Reciprocal(amax)
  inverse_of_amax = Mul(amax_inverse, span)
  inverse_first = Where(tiny, one, inverse_of_amax)
  scale_second = Div(one, inverse_first)
  scale = Where(is_global, scale_second, scale_first)
"""

_PEAK = {
    "Tensor": "amax = ReduceMax<keepdims = 0>(magnitude)",
    "Token": "last = Constant<value_ints = [-1]>()\n  amax = ReduceMax<keepdims = 1>(magnitude, last)",
}
_FP8_SCALE = """
  span = Constant<value_float = 448.0>()
  quotient = Div(amax, span)
  least = Constant<value_float = 6.018531076210112e-36>()
  one = Constant<value_float = 1.0>()
  tiny = Less(quotient, least)
  scale = Where(tiny, one, quotient)
"""
_FP8 = (
    *(
        f"""{_HEAD}
Fp8{kind}Scale (x) => (scale) {{{_CLEAN}
  magnitude = Abs(clean)
  {peak}
{_FP8_SCALE}}}
"""
        for kind, peak in _PEAK.items()
    ),
    f"""{_HEAD}
Fp8Quantize (x, scale) => (codes) {{
  v = Cast<to = 1>(x)
  quotient = Div(v, scale)
  codes = Cast<to = 17>(quotient)
}}
""",
    f"""{_HEAD}
Fp8Dequantize <dtype: int = 1> (codes, scale) => (y) {{
  v = Cast<to = 1>(codes)
  value = Mul(v, scale)
  y = Cast<to: int = @dtype>(value)
}}
""",
)

_PER_TENSOR_SCALE = f"""{_HEAD}
PerTensorScale <arithmetic: int = 0> (x) => (scale) {{{_CLEAN}
  magnitude = Abs(clean)
  amax = ReduceMax<keepdims = 0>(magnitude)
{_SCALE}}}
"""

_PER_TOKEN_SCALE = f"""{_HEAD}
PerTokenScale <arithmetic: int = 0> (x) => (scale) {{{_CLEAN}
  magnitude = Abs(clean)
  last = Constant<value_ints = [-1]>()
  amax = ReduceMax<keepdims = 1>(magnitude, last)
{_SCALE}}}
"""

# The three orders of operations differ per block, which is cheap, and then in `x * factor / divisor`: one of
# the two is 1, which is exact, so each order rounds where it should and only there.
_ARITHMETIC = """
  arithmetic_value = Constant<value_int: int = @arithmetic>()
  product = Constant<value_int = 1>()
  global = Constant<value_int = 2>()
  is_product = Equal(arithmetic_value, product)
  is_global = Equal(arithmetic_value, global)
  is_division = Or(is_product, is_global)
"""

_BLOCK_SCALE = """
  six = Constant<value_float = 6.0>()
  one = Constant<value_float = 1.0>()
  scale_column = Unsqueeze(scale, last)
  inverse = Reciprocal(scale_column)
  per_code = Div(amax, six)
  six_scales = Mul(six, scale_column)
  wanted_reciprocal = Div(per_code, scale_column)
  wanted_product = Div(amax, six_scales)
  wanted_global = Mul(inverse, per_code)
  wanted_division = Where(is_global, wanted_global, wanted_product)
  wanted_any = Where(is_division, wanted_division, wanted_reciprocal)
  amax_vanishes = Equal(wanted_any, zero)
  zero_amax_value = Constant<value_float: float = @zero_amax_scale>()
  wanted = Where(amax_vanishes, zero_amax_value, wanted_any)
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
"""

_SCALED = """
  multiplier = Div(inverse, finite_scale)
  factor = Where(is_division, one, multiplier)
  combined = Mul(finite_scale, scale_column)
  over_inverse = Div(finite_scale, inverse)
  divisor_division = Where(is_global, over_inverse, combined)
  divisor = Where(is_division, divisor_division, one)
  multiplied = Mul(block, factor)
  scaled = Div(multiplied, divisor)
"""

_RULE = ", ".join(
    [f"{name}: float = 0.0" for name in ("floor", "zero_amax_scale", "zero_block_scale")]
    + [f"{name}: int = 0" for name in ("arithmetic", "unsigned_zero")]
)

_QUANTIZE = f"""{_HEAD}
Quantize <{_RULE}> (x, scale) => (packed, block_scale) {{{_CLEAN}
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
  amax = ReduceMax<keepdims = 1>(magnitude, last){_ARITHMETIC}{_BLOCK_SCALE}{_SCALED}
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
  below = Less(scaled, zero)
  reciprocal = Div(one, block)
  below_or_minus_zero = Less(reciprocal, zero)
  unsigned_value = Constant<value_int: int = @unsigned_zero>()
  drops_sign = Cast<to = 9>(unsigned_value)
  keeps_sign = Not(drops_sign)
  minus_zero = And(keeps_sign, below_or_minus_zero)
  negative = Or(below, minus_zero)
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
    """Return the body of a two-level operator with its scale the constant 1.

    It is no call of the two-level one: inlined, that would hide types.
    """
    signature, body = text.split(") {", 1)
    signature = signature.replace(f"{name} ", f"{name}SingleLevel ").replace(", scale)", ")")
    return f"{signature}) {{\n  scale = Constant<value_float = 1.0>(){body}"


def e2m1_values() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the value of each e2m1 code: fp32 `[16]`."""
    codes = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn)
    return np.asarray(codes, dtype=np.float32)


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
        *_FP8,
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
