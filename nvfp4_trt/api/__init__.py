"""The public functions: quantizing, calibrating, exporting, checkpoints, building, comparing, reporting."""

from nvfp4_trt.api.benching import bench, run
from nvfp4_trt.api.building import build, build_buckets, build_plugin
from nvfp4_trt.api.calibrating import calibrate
from nvfp4_trt.api.checkpoint_files import convert, pack, save
from nvfp4_trt.api.comparing import compare
from nvfp4_trt.api.exporting import export
from nvfp4_trt.api.planning import plan
from nvfp4_trt.api.proving import prove
from nvfp4_trt.api.quantizing import quantize
from nvfp4_trt.api.reporting import report
from nvfp4_trt.api.sensitivities import sensitivity

__all__ = [
    "bench",
    "build",
    "build_buckets",
    "build_plugin",
    "calibrate",
    "compare",
    "convert",
    "export",
    "pack",
    "plan",
    "prove",
    "quantize",
    "report",
    "run",
    "save",
    "sensitivity",
]
