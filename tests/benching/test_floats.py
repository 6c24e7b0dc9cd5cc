"""The model without quantizers: what it computes, and the engine that TensorRT-RTX builds of it."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import nvfp4_trt
from nvfp4_trt.benching import build_baseline, with_baseline
from nvfp4_trt.benching.baseline import modelled_here
from nvfp4_trt.benching.floats import to_floats
from nvfp4_trt.building.records import read_record, record_of
from nvfp4_trt.costing import GPUS
from nvfp4_trt.errors import FileMissingError, InputsMismatchError, WrongKindError
from nvfp4_trt.portable import load, save


def outputs(path, feeds):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("name", ["rows", "heads", "rank4"])
@pytest.mark.parametrize("recipe", ["w4a16", "w4a16-fp8"])
def test_it_computes_what_its_weights_mean(portable, tmp_path, name, recipe):
    """Weight-only quantization has no other noise: fp16 throughout differs by its own rounding alone."""
    given = portable(name, "w4a16")
    if recipe == "w4a16-fp8":
        mixed = tmp_path / "fp8.onnx"
        nvfp4_trt.export(given.module, mixed, recipe="w4a16", fp8=["*"], inputs=[given.batch], dynamic=("batch",))
        path = mixed
    else:
        path = given.path
    model, _ = load(path)
    to_floats(model, ir.DataType.FLOAT16)
    assert not any(node.domain == "nvfp4" for node in model.graph)
    save(model, tmp_path / "fp16.onnx")
    found = onnx.load(tmp_path / "fp16.onnx")
    onnx.checker.check_model(found, full_check=True)
    assert found.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for wanted, got in zip(outputs(path, given.feeds), outputs(tmp_path / "fp16.onnx", given.feeds), strict=True):
        assert got.dtype == wanted.dtype
        assert np.linalg.norm(got - wanted) < 5e-3 * np.linalg.norm(wanted)


@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a4-static", "w4a4-dynamic"])
def test_quantized_activations_become_floats(portable, recipe):
    model, _ = load(portable("heads", recipe).path)
    to_floats(model, ir.DataType.BFLOAT16)
    assert not any(node.domain == "nvfp4" for node in model.graph)
    floats = {value.dtype for node in model.graph for value in node.outputs if value.dtype is not None}
    assert not floats & {ir.DataType.FLOAT16, ir.DataType.UINT8}


@pytest.fixture(scope="module")
def engine(portable, tmp_path_factory):
    given = portable("heads")
    folder = tmp_path_factory.mktemp("baseline")
    path = folder / "heads.engine"
    nvfp4_trt.build(given.path, path, optimize="off", cache=False)
    return path, given.path


def test_an_engine_in_bf16_beside_the_fp4_one(engine):
    path, source = engine
    with with_baseline(path, "bf16", source) as found:
        first, second = found
        assert first == (path, "nvfp4", read_record(record_of(path)).cost["microseconds_modelled"] / 1e3)
        assert second.engine.stat().st_size > 10_000
        record = second.engine.with_suffix(".record").read_text()
        assert "Datatype: BFloat16" in record
        assert "FP4E2M1" not in record
        assert second.precision == "bf16"
        assert 0 < second.modelled_ms < 1
    assert not second.engine.exists()
    with with_baseline(path, None, None) as found:
        assert found == [first]


def test_times_are_modelled_on_the_gpu_that_is_there(engine):
    path, source = engine
    record = read_record(record_of(path))
    known = record.cost["microseconds_modelled"] / 1e3
    assert record.cost["gpu"] == "rtx5090"
    assert modelled_here(path, record, None, None) == modelled_here(path, record, None, GPUS["rtx5090"]) == known
    assert modelled_here(path, record, source, GPUS["dgx-spark"]) > known
    assert modelled_here(path, record, None, GPUS["dgx-spark"]) is None  # no portable file beside it
    assert modelled_here(path, None, source, GPUS["rtx5090"]) is None


def test_what_a_baseline_cannot_be_built_of(engine, portable, tmp_path):
    path, _ = engine
    other = portable("rows").path
    record = read_record(record_of(path)).model_copy(update={"source_sha256": "0" * 64})
    with pytest.raises(InputsMismatchError, match="made from different models"):
        build_baseline(other, record, "bf16", tmp_path)
    with pytest.raises(FileMissingError, match=r"heads\.onnx"), with_baseline(path, "bf16", None):
        pass
    with pytest.raises(WrongKindError, match="int8"), with_baseline(path, "int8", None):
        pass
