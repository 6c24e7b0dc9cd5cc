"""Timing work on a GPU: CUDA events around launches and graphs, and what the samples come to."""

from nvfp4_trt.timing.measure import Effort, Measured, measure
from nvfp4_trt.timing.memory import MemoryWatch
from nvfp4_trt.timing.statistics import Summary, rate, summarize

__all__ = ["Effort", "Measured", "MemoryWatch", "Summary", "measure", "rate", "summarize"]
