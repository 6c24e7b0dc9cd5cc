"""How torch's ONNX exporter writes the custom operators: as bare nodes of domain `nvfp4`.

The exporter inlines every model-local function that it is given, so it is given none: the function bodies
are attached to the finished model (`functions.portable_functions`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import torch
from onnxscript.function_libs.torch_lib.ops.nn import aten_linear
from onnxscript.values import Op, Opset

from nvfp4_trt.format import scale_rule
from nvfp4_trt.portable.functions import ARITHMETIC, DOMAIN, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Schema = onnx.defs.OpSchema
_REAL = ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "any float")
_FP32, _U8, _E4M3 = "tensor(float)", "tensor(uint8)", "tensor(float8e4m3fn)"
_ARITHMETIC = [_Schema.Attribute("arithmetic", onnx.helper.make_attribute("arithmetic", 0), "")]
_RULE = [
    *(
        _Schema.Attribute(name, onnx.helper.make_attribute(name, 0.0), "")
        for name in ("floor", "zero_amax_scale", "zero_block_scale")
    ),
    *_ARITHMETIC,
    _Schema.Attribute("unsigned_zero", onnx.helper.make_attribute("unsigned_zero", 0), ""),
]
_DTYPE = [_Schema.Attribute("dtype", onnx.helper.make_attribute("dtype", 1), "")]


@cache
def _op(name: str) -> Op:
    inputs, outputs, attributes = _SIGNATURES[name]
    schema = _Schema(
        name,
        DOMAIN,
        VERSION,
        inputs=[_Schema.FormalParameter(n, t) for n, t in inputs],
        outputs=[_Schema.FormalParameter(n, t) for n, t in outputs],
        type_constraints=[_REAL] if any(t == "T" for _, t in (*inputs, *outputs)) else [],
        attributes=attributes,
    )
    return Op(Opset(DOMAIN, VERSION), name, schema)


_X, _SCALE, _Y = ("x", "T"), ("scale", _FP32), ("y", "T")
_CODES = [("packed", _U8), ("block_scale", _E4M3)]
_SIGNATURES: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]], list[_Schema.Attribute]]] = {
    "PerTensorScale": ([_X], [_SCALE], _ARITHMETIC),
    "PerTokenScale": ([_X], [_SCALE], _ARITHMETIC),
    "Quantize": ([_X, _SCALE], _CODES, _RULE),
    "QuantizeSingleLevel": ([_X], _CODES, _RULE),
    "Dequantize": ([*_CODES, _SCALE], [_Y], _DTYPE),
    "DequantizeSingleLevel": (_CODES, [_Y], _DTYPE),
    "Fp8TensorScale": ([_X], [_SCALE], []),
    "Fp8TokenScale": ([_X], [_SCALE], []),
    "Fp8Quantize": ([_X, _SCALE], [("codes", _E4M3)], []),
    "Fp8Dequantize": ([("codes", _E4M3), _SCALE], [_Y], _DTYPE),
}


def rule_attributes(name: str) -> dict[str, float]:
    """Return the attributes of `Quantize` for a scale rule: all, since some evaluators know no defaults."""
    rule = scale_rule(name)
    return {
        "floor": rule.floor,
        "zero_amax_scale": rule.zero_amax_scale or 0.0,
        "zero_block_scale": rule.zero_block_scale or 0.0,
        **scale_attributes(name),
        "unsigned_zero": int(not rule.signed_zero),
    }


def scale_attributes(name: str) -> dict[str, float]:
    """Return the attributes of `PerTensorScale` and `PerTokenScale` for a scale rule."""
    return {"arithmetic": ARITHMETIC[scale_rule(name).arithmetic.value]}


def _dtype_number(dtype: Any) -> int:
    if isinstance(dtype, torch.dtype):
        return int(_BY_TORCH[dtype])
    return int(dtype)


_BY_TORCH = {
    torch.float32: ir.DataType.FLOAT,
    torch.float16: ir.DataType.FLOAT16,
    torch.bfloat16: ir.DataType.BFLOAT16,
}


def _typed(value: Any, shape: Iterable[Any], dtype: Any) -> Any:
    value.shape, value.dtype = ir.Shape(shape), dtype
    return value


def _per_tensor_scale(x: Any, rule: str = "spec") -> Any:
    return _op("PerTensorScale")(x, **scale_attributes(rule))


def _per_token_scale(x: Any, rule: str = "spec") -> Any:
    return _op("PerTokenScale")(x, **scale_attributes(rule))


def _quantize(x: Any, scale: Any, rule: str = "spec") -> Any:
    if scale is None:
        return _op("QuantizeSingleLevel")(x, **rule_attributes(rule))
    return _op("Quantize")(x, scale, **rule_attributes(rule))


def _dequantize(packed: Any, block_scale: Any, scale: Any, dtype: Any) -> Any:
    number = _dtype_number(dtype)
    if scale is None:
        return _op("DequantizeSingleLevel")(packed, block_scale, dtype=number)
    return _op("Dequantize")(packed, block_scale, scale, dtype=number)


def _fake_quantize(x: Any, scale: Any, rule: str = "spec") -> Any:
    packed, block_scale = _quantize(x, scale, rule)
    return _dequantize(packed, block_scale, scale, x.dtype)


def _fake_quantize_scaled(x: Any, scaling: str, scale: Any = None, rule: str = "spec") -> Any:
    # Between the nodes of one traced operator the exporter knows no shapes, and onnx none of the domain's.
    if scaling == "tensor":
        scale = _typed(_per_tensor_scale(x, rule), (), ir.DataType.FLOAT)
    elif scaling == "token":
        scale = _typed(_per_token_scale(x, rule), (*x.shape[:-1], 1), ir.DataType.FLOAT)
    return _typed(_fake_quantize(x, scale, rule), x.shape, x.dtype)


def _linear(
    x: Any, packed: Any, block_scale: Any, weight_scale: Any, bias: Any, scaling: str, scale: Any = None
) -> Any:
    values = x if scaling == "none" else _fake_quantize_scaled(x, scaling, scale)
    weight = _dequantize(packed, block_scale, weight_scale, x.dtype)
    return aten_linear(values, _typed(weight, (packed.shape[0], packed.shape[1] * 2), x.dtype), bias)


def _fp8_scale(x: Any, per_row: bool) -> Any:
    return _op("Fp8TokenScale" if per_row else "Fp8TensorScale")(x)


def _fp8_dequantize(codes: Any, scale: Any, dtype: Any) -> Any:
    return _op("Fp8Dequantize")(codes, scale, dtype=_dtype_number(dtype))


def _fp8_fake_quantize(x: Any, scale: Any) -> Any:
    return _fp8_dequantize(_op("Fp8Quantize")(x, scale), scale, x.dtype)


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the exporter's `custom_translation_table` for the operators of `quantization.ops`."""
    ops = torch.ops.nvfp4
    return {
        ops.per_tensor_scale.default: _per_tensor_scale,
        ops.per_token_scale.default: _per_token_scale,
        ops.quantize.default: _quantize,
        ops.dequantize.default: _dequantize,
        ops.fake_quantize.default: _fake_quantize,
        ops.fake_quantize_scaled.default: _fake_quantize_scaled,
        ops.linear.default: _linear,
        ops.fp8_scale.default: _fp8_scale,
        ops.fp8_dequantize.default: _fp8_dequantize,
        ops.fp8_fake_quantize.default: _fp8_fake_quantize,
    }
