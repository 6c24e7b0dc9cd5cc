"""The plugin for full TensorRT, in Python: norm or activation, scale, codes and swizzle in one layer; an FP4 GEMM.

Importing this room loads neither TensorRT nor a CUDA driver, and nothing in it needs torch.
"""

from nvfp4_trt.plugin.classes import PluginClasses, plugin_classes, register
from nvfp4_trt.plugin.fields import DOMAIN, GEMM, NAMESPACE, QUANTIZE, VERSION, GemmFields, QuantizeFields

__all__ = [
    "DOMAIN",
    "GEMM",
    "NAMESPACE",
    "QUANTIZE",
    "VERSION",
    "GemmFields",
    "PluginClasses",
    "QuantizeFields",
    "plugin_classes",
    "register",
]
