"""The public functions: quantizing, calibrating, exporting, checkpoints, building, comparing, reporting.

They load on first use: a command imports what it needs, and no comparer or planner beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.lazy import lazily

if TYPE_CHECKING:
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

_HOMES = {
    "bench": "nvfp4_trt.api.benching",
    "build": "nvfp4_trt.api.building",
    "build_buckets": "nvfp4_trt.api.building",
    "build_plugin": "nvfp4_trt.api.building",
    "calibrate": "nvfp4_trt.api.calibrating",
    "compare": "nvfp4_trt.api.comparing",
    "convert": "nvfp4_trt.api.checkpoint_files",
    "export": "nvfp4_trt.api.exporting",
    "pack": "nvfp4_trt.api.checkpoint_files",
    "plan": "nvfp4_trt.api.planning",
    "prove": "nvfp4_trt.api.proving",
    "quantize": "nvfp4_trt.api.quantizing",
    "report": "nvfp4_trt.api.reporting",
    "run": "nvfp4_trt.api.benching",
    "save": "nvfp4_trt.api.checkpoint_files",
    "sensitivity": "nvfp4_trt.api.sensitivities",
}

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

__getattr__, __dir__ = lazily(__name__, _HOMES)
