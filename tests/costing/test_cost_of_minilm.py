"""The sentence encoder as it is: every operand of its record has a size."""

import sys
from pathlib import Path

import onnx_ir as ir
import pytest

import nvfp4_trt
from nvfp4_trt.costing import GPUS, cost_engine, shapes_at

sys.path.insert(0, str(Path(__file__).parents[2]))  # samples are not installed with the package

from samples.minilm import inputs


@pytest.mark.long
def test_every_operand_of_the_encoder_is_sized(tmp_path):
    portable, lowered = tmp_path / "encoder.onnx", tmp_path / "encoder.trt.onnx"
    nvfp4_trt.export(inputs.model_folder(), portable, inputs=inputs.calibration(), dynamic=("batch,sequence",))
    built = nvfp4_trt.build(
        portable,
        tmp_path / "encoder.engine",
        backend="tensorrt_rtx",
        optimize="off",
        dims=("batch=1:8:32", "sequence=1:128:512"),
        lowered=lowered,
    )
    model = ir.load(lowered)
    for shape in ((1, 16), (8, 128), (12, 384), (32, 512)):
        found = shapes_at(model, {"input_ids": shape, "attention_mask": shape})
        assert found.unknown == ()
        cost = cost_engine(built.record.rows, GPUS["rtx5090"], found)
        assert cost.unresolved == 0
        assert cost.kernels == built.audit.kernels
        batch, sequence = shape
        linears = 2 * batch * sequence * 6 * 12 * 384 * 384 + 2 * batch * 384 * 384  # six layers, and the pooler
        assert cost.flops["fp4"] == linears
