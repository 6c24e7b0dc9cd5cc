"""FP8 through the lowering: exact but for where the scale is multiplied; also beside the plugin's nodes."""

from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from both_sides import Run, apply, assert_leaves_alone, assert_same_bits, error, evaluate, prefix
from models import make

import nvfp4_trt
from nvfp4_trt.passes import FORMS, Fp8Quantizers, OuterScale, lower, strip_plugin_functions
from nvfp4_trt.portable import load

BOUND = {"float32": 2**-20, "float16": 0.12, "bfloat16": 0.15}
"""As in test_pipeline.py."""


class Exported(NamedTuple):
    path: Path
    feeds: dict[str, np.ndarray]


def as_array(tensor):
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return the function that exports a model with FP8 among its layers."""
    made = {}

    def export(recipe="w4a4-dynamic-token", dtype="float32"):
        if (recipe, dtype) not in made:
            path = tmp_path_factory.mktemp("mixed") / "model.onnx"
            module, batch, dynamic = make("llama")
            wanted = {"float32": module.float, "float16": module.half, "bfloat16": module.bfloat16}[dtype]()
            batch = {name: tensor.to(next(wanted.parameters()).dtype) for name, tensor in batch.items()}
            fp8 = ["q", "k", "down"]
            nvfp4_trt.export(wanted, path, recipe=recipe, inputs=[batch], dynamic=dynamic, fp8=fp8)
            made[recipe, dtype] = Exported(path, {name: as_array(tensor) for name, tensor in batch.items()})
        return made[recipe, dtype]

    return export


CASES = [
    *((recipe, "float32") for recipe in ("w4a4-dynamic-token", "w4a4-dynamic", "w4a4-static", "w4a16")),
    ("w4a4-dynamic-token", "float16"),
    ("w4a4-static", "float16"),
    ("w4a4-dynamic-token", "bfloat16"),
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_it_changes_no_bit(mixed, case):
    exported = mixed(*case)
    model = prefix(Fp8Quantizers, exported.path)
    run = apply(Fp8Quantizers, model, exported.feeds)
    assert run.changes > 0
    assert_same_bits(run)
    assert_leaves_alone(Fp8Quantizers, run.model)


def test_a_run_time_scale_leaves_the_quantizer(mixed):
    exported = mixed()
    model = prefix(OuterScale, exported.path)
    before = {node.outputs[0].name for node in model.graph if node.op_type.startswith("Fp8Quantize")}
    run = apply(OuterScale, model, exported.feeds)
    assert error(run) < BOUND["float32"]
    for node in model.graph:
        if node.outputs[0].name in before:
            assert node.inputs[1].const_value.numpy() == 2.0**-9


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_lowered_means_what_portable_means(mixed, case, form):
    exported = mixed(*case)
    model, metadata = load(exported.path)
    before = evaluate(model, exported.feeds)
    lowering = lower(model, form=form)
    after = evaluate(model, exported.feeds)
    assert error(Run(0, before, after, model)) < BOUND[case[1]]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    asked = {layer.name for layer in metadata.layers if layer.quantized}
    assert {layer for layers in lowering.gemms.values() for layer in layers} == asked


def test_beside_the_plugins_nodes(mixed):
    exported = mixed()
    model, metadata = load(exported.path)
    lowering = lower(model, plugin=True)
    in_plugin = {layer for layers in lowering.plugin_gemms.values() for layer in layers}
    assert in_plugin == {layer.name for layer in metadata.layers if layer.is_fp4}
    assert set(sum(lowering.gemms.values(), ())) == {layer.name for layer in metadata.layers if layer.is_fp8}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    strip_plugin_functions(model)
    assert not any(node.domain == "nvfp4" for node in model.graph)
