"""From a quantized torch module to a portable ONNX file."""

from nvfp4_trt.exporting.dynamic import dynamic_axes, traceable
from nvfp4_trt.exporting.export import OnnxArtifact, export_module

__all__ = ["OnnxArtifact", "dynamic_axes", "export_module", "traceable"]
