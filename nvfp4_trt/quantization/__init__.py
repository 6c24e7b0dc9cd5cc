"""Quantizing a torch module: selecting layers, packing weights, the quantized modules and their operators."""

from nvfp4_trt.quantization.convert import QuantizedModel, quantize_module
from nvfp4_trt.quantization.modules import ActivationQuantizer, PackedWeight, QuantEmbedding, QuantLinear
from nvfp4_trt.quantization.select import select

__all__ = [
    "ActivationQuantizer",
    "PackedWeight",
    "QuantEmbedding",
    "QuantLinear",
    "QuantizedModel",
    "quantize_module",
    "select",
]
