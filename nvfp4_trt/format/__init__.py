"""The NVFP4 number format: e2m1 data, e4m3 block scales, fp32 per-tensor scales. Pure functions, no I/O."""

from __future__ import annotations

from nvfp4_trt.format.codec import (
    dequantize,
    pack_codes,
    pack_weight,
    per_tensor_scale,
    per_token_scale,
    quantize,
    round_e2m1,
    unpack_codes,
)
from nvfp4_trt.format.constants import (
    BLOCK,
    E2M1_MAX,
    E2M1_VALUES,
    E4M3_MAX,
    FLT_MAX,
    SMALLEST_SCALE,
    TWO_LEVEL_MAX,
)
from nvfp4_trt.format.fp8 import fp8_dequantize, fp8_quantize, fp8_scale, fp8_scale_from_amax
from nvfp4_trt.format.rules import (
    COMPRESSED_TENSORS,
    MODELOPT,
    SPEC,
    TORCHAO,
    Arithmetic,
    ScaleRule,
    scale_rule,
)
from nvfp4_trt.format.scales import round_e4m3, scale_from_amax
from nvfp4_trt.format.swizzle import swizzle_scales, unswizzle_scales

__all__ = [
    "BLOCK",
    "COMPRESSED_TENSORS",
    "E2M1_MAX",
    "E2M1_VALUES",
    "E4M3_MAX",
    "FLT_MAX",
    "MODELOPT",
    "SMALLEST_SCALE",
    "SPEC",
    "TORCHAO",
    "TWO_LEVEL_MAX",
    "Arithmetic",
    "ScaleRule",
    "dequantize",
    "fp8_dequantize",
    "fp8_quantize",
    "fp8_scale",
    "fp8_scale_from_amax",
    "pack_codes",
    "pack_weight",
    "per_tensor_scale",
    "per_token_scale",
    "quantize",
    "round_e2m1",
    "round_e4m3",
    "scale_from_amax",
    "scale_rule",
    "swizzle_scales",
    "unpack_codes",
    "unswizzle_scales",
]
