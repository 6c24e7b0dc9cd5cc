"""The audit of FP8 layers: on a real engine with both precisions, and on one that lost FP8."""

import pytest
from models import make

import nvfp4_trt
from nvfp4_trt.auditing import FLOOR, Operand, Row, audit_engine
from nvfp4_trt.errors import Fp8LostError
from nvfp4_trt.layers import FP8, NVFP4, Layer

FP8_LAYERS = ["q", "k", "down"]


@pytest.mark.long
@pytest.mark.parametrize(("recipe", "dtype"), [("w4a4-dynamic-token", "float16"), ("w4a16", "float32")])
def test_an_engine_of_two_precisions(tmp_path, recipe, dtype):
    module, batch, dynamic = make("llama")
    made = nvfp4_trt.export(
        module, tmp_path / "a.onnx", recipe=recipe, inputs=[batch], dynamic=dynamic, fp8=FP8_LAYERS, dtype=dtype
    )
    audit = nvfp4_trt.build(made, tmp_path / "a.engine", backend="tensorrt_rtx", optimize="off").audit
    suffix = "-weight-only" if recipe == "w4a16" else ""
    assert audit.counts(NVFP4 + suffix) == (4, 4)
    assert audit.counts(FP8 + suffix) == (3, 3)
    assert {layer.name for layer in audit.layers if layer.requested == FP8 + suffix} == set(FP8_LAYERS)
    assert all(layer.row for layer in audit.layers)
    assert all(bool(layer.scale_row) != bool(suffix) for layer in audit.layers)
    fp4 = sum(module.get_submodule(name).weight.numel() for name in ("v", "o", "gate", "up"))
    assert audit.floor_bytes == int(FLOOR * fp4)
    assert audit.floor_bytes <= audit.weight_bytes < 1.5 * audit.floor_bytes


def row(dtype, weight="FP8"):
    return Row(
        name="gemm_1",
        type="gemm",
        inputs=(Operand(name="x", dims=(8, 64), dtype=dtype),),
        constants=(Operand(name="w", dims=(64, 64), dtype=weight),),
        outputs=(),
        onnx=("fc/MatMul",),
    )


@pytest.mark.parametrize(("inputs", "weight"), [("Half", "FP8"), ("FP8", "Half"), ("Half", "Half")])
def test_a_gemm_that_lost_fp8_is_an_error(inputs, weight):
    layer = Layer("fc", "Linear", (64, 24), FP8)
    audit = audit_engine([row(inputs, weight)], [layer], {"fc/MatMul": ("fc",)}, {}, {})
    with pytest.raises(
        Fp8LostError, match=r"the GEMM of fc is not FP8 in the engine: .*no FP8 operands on both"
    ) as e:
        audit.check()
    assert (e.value.code, e.value.exit_status) == ("fp8-lost", 1)
    accepted = audit_engine([row(inputs, weight)], [layer], {"fc/MatMul": ("fc",)}, {}, {}, allow=["fc"])
    accepted.check()
    realized = audit_engine([row("FP8")], [layer], {"fc/MatMul": ("fc",)}, {}, {})
    assert realized.counts(FP8) == (1, 1)


def test_an_fp4_gemm_is_no_fp8_gemm_for_its_block_scales():
    scales = Operand(name="s", dims=(1, 4, 32, 1, 4), dtype="FP8")
    fp4 = row("FP4E2M1", "FP4E2M1")
    fp4 = fp4.model_copy(update={"inputs": (*fp4.inputs, scales), "constants": (*fp4.constants, scales)})
    assert fp4.is_fp4_gemm
    assert not fp4.is_fp8_gemm
    assert not fp4.reads_fp8_weight
