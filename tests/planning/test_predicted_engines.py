"""What a plan predicts, held to engines that are built."""

import pytest
import torch
from torch import nn
from transformer_block import Block

import nvfp4_trt

WIDTH = 256


def exported(folder, before, recipe, *, dynamic=("batch,sequence",)):
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(before) for _ in range(2))).half().eval()
    path = folder / "model.onnx"
    inputs = [{"input": torch.randn(2, 64, WIDTH).half()}]
    nvfp4_trt.export(model, path, recipe=recipe, inputs=inputs, dynamic=dynamic)
    return path


@pytest.mark.parametrize(
    ("before", "recipe", "dims", "optimize"),
    [
        (False, "w4a4-static", ("batch=1:4:8", "sequence=1:32:64"), "fast"),
        (True, "w4a4-dynamic-token", ("batch=1:4:8", "sequence=1:32:64"), "fast"),
        (True, "w4a4-dynamic-token", ("batch=4", "sequence=32"), "off"),
    ],
)
def test_kernels_and_bytes_are_those_of_the_engine(tmp_path, before, recipe, dims, optimize):
    path = exported(tmp_path, before, recipe)
    found = nvfp4_trt.plan(path, gpus=["rtx5090"], dims=dims, optimize=optimize).gpus[0].engine("nvfp4")
    built = nvfp4_trt.build(
        path, tmp_path / "engine", backend="tensorrt_rtx", targets=["sm_120"], dims=dims, optimize=optimize
    )
    assert found.kernels == built.audit.kernels
    assert found.variant == built.record.form
    assert found.weight_bytes == pytest.approx(built.record.memory.weight_bytes, rel=0.02)
    # Tiny ones, which are nearly all code.
    assert found.engine_bytes == pytest.approx(built.record.engine_bytes, rel=0.05)
    assert found.moved_bytes == pytest.approx(built.record.cost["bytes"], rel=0.05)
    assert found.microseconds_modelled == pytest.approx(built.record.cost["microseconds_modelled"], rel=0.05)


def test_an_fp8_engine_of_the_same_model_is_what_an_export_to_fp8_gives(tmp_path):
    torch.manual_seed(0)
    model = Block(before=True).half().eval()
    inputs = [{"x": torch.randn(2, 64, WIDTH).half()}]
    nvfp4_trt.export(model, tmp_path / "fp4.onnx", inputs=inputs)
    nvfp4_trt.export(model, tmp_path / "fp8.onnx", inputs=inputs, fp8=["*"])
    planned = nvfp4_trt.plan(tmp_path / "fp4.onnx", gpus=["rtx5090"]).gpus[0].engine("fp8")
    built = nvfp4_trt.build(
        tmp_path / "fp8.onnx", tmp_path / "engine", backend="tensorrt_rtx", targets=["sm_120"], optimize="off"
    )
    assert planned.kernels == built.audit.kernels
    assert planned.weight_bytes == pytest.approx(built.record.memory.weight_bytes, rel=0.02)
    assert planned.engine_bytes == pytest.approx(built.record.engine_bytes, rel=0.05)
