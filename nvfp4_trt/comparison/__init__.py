"""Comparing an exported file with its float model, through Polygraphy: outputs, and layer by layer."""

from nvfp4_trt.comparison.compare import compare_onnx, compare_saved, compared, run_all
from nvfp4_trt.comparison.layer_result import BackendMetrics, LayerComparison, LayerMetrics
from nvfp4_trt.comparison.layers import BOUNDS_DB, compare_layers
from nvfp4_trt.comparison.result import SQNR_LIMIT, Comparison, OutputMetrics

__all__ = [
    "BOUNDS_DB",
    "SQNR_LIMIT",
    "BackendMetrics",
    "Comparison",
    "LayerComparison",
    "LayerMetrics",
    "OutputMetrics",
    "compare_layers",
    "compare_onnx",
    "compare_saved",
    "compared",
    "run_all",
]
