"""Which type each command's object has."""

from __future__ import annotations

from typing import Any

from nvfp4_trt.benching import Bench, Proof
from nvfp4_trt.planning import Plan
from nvfp4_trt.printing.schemas import engines, results

RESULTS: dict[str, Any] = {
    "check": results.Check,
    "plan": Plan,
    "export": results.Export,
    "calibrate": results.Calibrate,
    "pack": results.Pack,
    "convert": results.Convert,
    "build engine": engines.Engine | engines.ServingSet,
    "build plugin": results.KernelPack,
    "inspect": results.Portable | engines.InspectedEngine | engines.ServingSet,
    "compare": results.Compare,
    "run": results.Run,
    "bench": Bench,
    "prove": Proof,
    "sensitivity": results.Sensitivity,
    "lower": results.Lower,
    "report": results.Reported,
    "recipes": results.Recipes,
    "doctor": results.Doctor,
    "explain": results.Explain | results.ExplainAll,
    "completion": results.Completion,
}
"""Command, as it is typed → the type of what it prints."""
