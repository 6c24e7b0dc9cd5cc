"""Models and their inputs, in every form that they arrive in; no code in a file runs unless trusted."""

from nvfp4_trt.loading.fit import check_fits
from nvfp4_trt.loading.inputs import Inputs, check_runs, load_inputs, stream_inputs
from nvfp4_trt.loading.loaded import Batch, ForwardNames, LoadedModel, SourceKind, forward_names
from nvfp4_trt.loading.loader import load_model
from nvfp4_trt.loading.outputs import flatten_outputs
from nvfp4_trt.loading.spill import Spill

__all__ = [
    "Batch",
    "ForwardNames",
    "Inputs",
    "LoadedModel",
    "SourceKind",
    "Spill",
    "check_fits",
    "check_runs",
    "flatten_outputs",
    "forward_names",
    "load_inputs",
    "load_model",
    "stream_inputs",
]
