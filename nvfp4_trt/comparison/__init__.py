"""Comparing an exported file with its float model, through Polygraphy."""

from nvfp4_trt.comparison.compare import compare_onnx, compare_saved
from nvfp4_trt.comparison.result import SQNR_LIMIT, Comparison, OutputMetrics

__all__ = ["SQNR_LIMIT", "Comparison", "OutputMetrics", "compare_onnx", "compare_saved"]
