"""Timing work on a GPU: CUDA events around launches and graphs, and what the samples come to."""

from nvfp4_trt.timing.measure import Effort, Measured, measure
from nvfp4_trt.timing.memory import MemoryWatch
from nvfp4_trt.timing.results import SCHEMA, Bench, BenchRow, load_bench
from nvfp4_trt.timing.statistics import Summary, rate, summarize

__all__ = [
    "SCHEMA",
    "Bench",
    "BenchRow",
    "Effort",
    "Measured",
    "MemoryWatch",
    "Summary",
    "load_bench",
    "measure",
    "rate",
    "summarize",
]
