"""nvfp4-trt: from a PyTorch model to a TensorRT engine whose GEMMs are FP4, audited.

The public names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.lazy import lazily

if TYPE_CHECKING:
    from nvfp4_trt.api import (
        bench,
        build,
        build_buckets,
        build_plugin,
        calibrate,
        compare,
        convert,
        export,
        pack,
        plan,
        prove,
        quantize,
        report,
        run,
        save,
        sensitivity,
    )
    from nvfp4_trt.auditing import Audit
    from nvfp4_trt.benching import EngineRun, Proof
    from nvfp4_trt.building import EngineArtifact
    from nvfp4_trt.calibration import Calibration
    from nvfp4_trt.checking import Checked, check
    from nvfp4_trt.checkpoints import Converted, Saved
    from nvfp4_trt.comparison import Comparison
    from nvfp4_trt.doctor import Diagnosis, diagnose
    from nvfp4_trt.errors import Nvfp4Error
    from nvfp4_trt.explanations import Explanation, explain
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.mixing import Sensitivity
    from nvfp4_trt.planning import Plan
    from nvfp4_trt.qat import QatState, convert_qat, prepare_qat, qat_state
    from nvfp4_trt.quantization import QuantizedModel
    from nvfp4_trt.quantization.packed_files import PackedFile
    from nvfp4_trt.recipe import RECIPES, Recipe
    from nvfp4_trt.reporting import Report
    from nvfp4_trt.serving import Dispatcher, ServingSet
    from nvfp4_trt.timing import Bench, load_bench

_HOMES = {
    "quantize": "nvfp4_trt.api",
    "export": "nvfp4_trt.api",
    "pack": "nvfp4_trt.api",
    "plan": "nvfp4_trt.api",
    "bench": "nvfp4_trt.api",
    "build": "nvfp4_trt.api",
    "load_bench": "nvfp4_trt.timing",
    "prove": "nvfp4_trt.api",
    "run": "nvfp4_trt.api",
    "build_buckets": "nvfp4_trt.api",
    "build_plugin": "nvfp4_trt.api",
    "calibrate": "nvfp4_trt.api",
    "compare": "nvfp4_trt.api",
    "check": "nvfp4_trt.checking",
    "convert": "nvfp4_trt.api",
    "diagnose": "nvfp4_trt.doctor",
    "explain": "nvfp4_trt.explanations",
    "report": "nvfp4_trt.api",
    "sensitivity": "nvfp4_trt.api",
    "prepare_qat": "nvfp4_trt.qat",
    "convert_qat": "nvfp4_trt.qat",
    "qat_state": "nvfp4_trt.qat",
    "save": "nvfp4_trt.api",
    "Audit": "nvfp4_trt.auditing",
    "Checked": "nvfp4_trt.checking",
    "Calibration": "nvfp4_trt.calibration",
    "Comparison": "nvfp4_trt.comparison",
    "Converted": "nvfp4_trt.checkpoints",
    "Diagnosis": "nvfp4_trt.doctor",
    "Dispatcher": "nvfp4_trt.serving",
    "EngineArtifact": "nvfp4_trt.building",
    "Bench": "nvfp4_trt.timing",
    "EngineRun": "nvfp4_trt.benching",
    "Explanation": "nvfp4_trt.explanations",
    "Nvfp4Error": "nvfp4_trt.errors",
    "OnnxArtifact": "nvfp4_trt.exporting",
    "Plan": "nvfp4_trt.planning",
    "Proof": "nvfp4_trt.benching",
    "PackedFile": "nvfp4_trt.quantization.packed_files",
    "QatState": "nvfp4_trt.qat",
    "QuantizedModel": "nvfp4_trt.quantization",
    "Sensitivity": "nvfp4_trt.mixing",
    "RECIPES": "nvfp4_trt.recipe",
    "Recipe": "nvfp4_trt.recipe",
    "Report": "nvfp4_trt.reporting",
    "Saved": "nvfp4_trt.checkpoints",
    "ServingSet": "nvfp4_trt.serving",
}

__all__ = [
    "RECIPES",
    "Audit",
    "Bench",
    "Calibration",
    "Checked",
    "Comparison",
    "Converted",
    "Diagnosis",
    "Dispatcher",
    "EngineArtifact",
    "EngineRun",
    "Explanation",
    "Nvfp4Error",
    "OnnxArtifact",
    "PackedFile",
    "Plan",
    "Proof",
    "QatState",
    "QuantizedModel",
    "Recipe",
    "Report",
    "Saved",
    "Sensitivity",
    "ServingSet",
    "bench",
    "build",
    "build_buckets",
    "build_plugin",
    "calibrate",
    "check",
    "compare",
    "convert",
    "convert_qat",
    "diagnose",
    "explain",
    "export",
    "load_bench",
    "pack",
    "plan",
    "prepare_qat",
    "prove",
    "qat_state",
    "quantize",
    "report",
    "run",
    "save",
    "sensitivity",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
