"""Lowering with plugin nodes, and running the result on ONNX Runtime."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from both_sides import evaluate
from onnx_ir.passes.common import InlinePass

from nvfp4_trt.passes import PLUGIN_PIPELINE, lower
from nvfp4_trt.passes.plugin_nodes import GEMM, QUANTIZE, is_plugin
from nvfp4_trt.portable import load

RECIPES = ("w4a4-dynamic-token", "w4a4-dynamic", "w4a4-static", "w4a4-single-level")
SCALING = dict(zip(RECIPES, ("token", "tensor", "static", "single"), strict=True))


def on_onnxruntime(model, feeds):
    """Return the outputs by name."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    proto = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def on_reference(model, feeds):
    """Return the outputs by name. ONNX's evaluator knows no overloads: the plugin's bodies are inlined first."""
    copy = model.clone()
    InlinePass()(copy)
    return evaluate(copy, feeds)


def plugin_lowered(path):
    model, _ = load(path)
    lowering = lower(model, plugin=True)
    return model, lowering


def until(kind, path):
    """Load a portable file and run the plugin passes that come before `kind`."""
    model, _ = load(path)
    for earlier in PLUGIN_PIPELINE[: PLUGIN_PIPELINE.index(kind)]:
        earlier().run(model)
    return model


def quantizers(model):
    return [node for node in model.graph if is_plugin(node, QUANTIZE)]


def gemms(model):
    return [node for node in model.graph if is_plugin(node, GEMM)]


def functions_of(model):
    return [node.attributes.get_string("function") for node in quantizers(model)]


def flags_of(node):
    return {
        name for name in node.attributes if name.startswith(("has_", "emit_")) and node.attributes.get_int(name)
    }


def relative(before, after):
    """Return the largest difference of any output, as a share of its largest value."""
    assert before.keys() == after.keys()
    largest = 0.0
    for name, array in before.items():
        assert array.shape == after[name].shape
        assert array.dtype == after[name].dtype
        a, b = (x.astype(np.float64) for x in (array, after[name]))
        largest = max(largest, float(np.abs(a - b).max() / np.abs(a).max()))
    return largest


def sqnr(a, b):
    """Return the ratio of signal to difference in dB."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    noise = ((a - b) ** 2).sum()
    return np.inf if noise == 0 else 10 * np.log10((a**2).sum() / noise)


NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
