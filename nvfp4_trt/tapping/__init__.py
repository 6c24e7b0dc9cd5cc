"""Looking inside a model while it runs: what enters each quantized layer and leaves it, in torch and in ONNX."""

from nvfp4_trt.tapping.calls import Call, input_tap, output_tap
from nvfp4_trt.tapping.copies import Copy, alone, between, tapped
from nvfp4_trt.tapping.points import Form, Point, find_points
from nvfp4_trt.tapping.sessions import Copies
from nvfp4_trt.tapping.stored import differing
from nvfp4_trt.tapping.torch_taps import LayersAlone, TappedRunner, form_of

__all__ = [
    "Call",
    "Copies",
    "Copy",
    "Form",
    "LayersAlone",
    "Point",
    "TappedRunner",
    "alone",
    "between",
    "differing",
    "find_points",
    "form_of",
    "input_tap",
    "output_tap",
    "tapped",
]
