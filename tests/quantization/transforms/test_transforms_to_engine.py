"""Smoothing and low-rank branches in the portable file, the lowered ones and an engine, whose GEMMs are FP4."""

import pytest
import torch
from test_transforms import NAMES, batches, block, recipe

import nvfp4_trt
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load
from nvfp4_trt.recipe import Recipe, Smooth

BOTH = recipe(Smooth(), low_rank=8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("transforms") / "model.onnx"
    model = block()
    nvfp4_trt.export(model, path, recipe=BOTH, inputs=batches(), dynamic=("batch",))
    return path, model


def test_the_file_computes_what_the_modules_compute(exported):
    path, model = exported
    quantized = nvfp4_trt.quantize(model, BOTH, inputs=batches())
    found = nvfp4_trt.compare(path, quantized.module, inputs=batches(5)[4:])
    assert found.outputs[0].sqnr_db > 60


def test_the_file_holds_what_gptq_chose_behind_both(tmp_path):
    chosen, model = recipe(Smooth(), low_rank=8, method="gptq+mse"), block()
    nvfp4_trt.export(model, tmp_path / "model.onnx", recipe=chosen, inputs=batches(), dynamic=("batch",))
    made = nvfp4_trt.quantize(model, chosen, inputs=batches()).module
    held = load(tmp_path / "model.onnx")[0].graph.initializers
    for name in NAMES:
        for buffer in ("weight_packed", "weight_block_scale", "weight_per_tensor_scale"):
            tensor = made.get_submodule(name).get_buffer(buffer)
            assert (
                held[f"{name}.{buffer}"].const_value.tobytes()
                == tensor.view(-1).view(torch.uint8).numpy().tobytes()
            )
    found = nvfp4_trt.compare(tmp_path / "model.onnx", made, inputs=batches(5)[4:])
    assert found.outputs[0].sqnr_db > 60


def test_layers_on_one_tensor_share_the_multiplication_and_the_quantizer(exported):
    graph = load(exported[0])[0].graph
    kinds = [node.op_type for node in graph]
    assert kinds.count("Quantize") == 3  # q and k share one
    assert kinds.count("MatMul") + kinds.count("Gemm") == 4 + 3 + 4  # FP4 GEMMs, into branches, out of them


def test_the_recipe_is_in_the_file(exported):
    held = Recipe.model_validate(load(exported[0])[1].recipe)
    assert held.smooth == Smooth()
    assert held.weights.low_rank == 8


def test_the_engine_has_fp4_gemms(exported, tmp_path):
    engine = nvfp4_trt.build(exported[0], tmp_path / "model.engine", backend="tensorrt_rtx", optimize="off")
    assert engine.audit.counts("nvfp4") == (4, 4)


def test_the_plugin_takes_it_too(exported):
    model, _ = load(exported[0])
    lower(model, plugin=True)
    assert len([node for node in model.graph if node.op_type == "Nvfp4Gemm"]) == 3  # q and k are one
