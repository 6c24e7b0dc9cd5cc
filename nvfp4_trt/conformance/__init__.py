"""Conformance vectors: inputs with their codes, scales and outputs, and the checks against them."""

from nvfp4_trt.conformance.check import Mismatch, check_dequantizer, check_quantizer
from nvfp4_trt.conformance.vectors import Case, Vectors, read_vectors

__all__ = ["Case", "Mismatch", "Vectors", "check_dequantizer", "check_quantizer", "read_vectors"]
