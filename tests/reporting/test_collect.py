"""A report's data, against the files that it is of."""

import onnx
import pytest

import nvfp4_trt
from nvfp4_trt.building import read_record
from nvfp4_trt.costing import find_gpu
from nvfp4_trt.errors import (
    FileMissingError,
    NotAModelError,
    NotOurOnnxError,
    OnnxInvalidError,
    UnknownGpuError,
    WrongKindError,
)
from nvfp4_trt.reporting import collect
from nvfp4_trt.reporting.planned import engines_of, time_by_kind

LAYERS = {"query", "key", "value", "out", "pooler"}


def test_layers_and_bytes(page, made):
    report = page.report
    assert {layer.name for layer in report.layers if layer.kind} == LAYERS
    for layer in report.layers:
        n, k = layer.shape
        bias = 4 * n if layer.name in LAYERS else 0
        assert layer.bytes == n * k // 2 + n * k // 16 + 4 + bias
        assert layer.activation_scale == "run-time, per token"
    stored = onnx.load(made.onnx).graph.initializer
    assert sum(share.tensors for share in report.bytes) == len(stored)
    codes = {share.name: share for share in report.bytes}["FP4 codes"]
    assert (codes.tensors, codes.bytes) == (5, (4 * 64 * 64 + 48 * 64) // 2)
    assert report.onnx_bytes == made.onnx.stat().st_size


def test_the_engine_beside_the_file(page, made):
    engine, record = page.report.engine, read_record(made.onnx.with_name("heads.engine.json"))
    assert (engine.file, engine.bytes) == ("heads.engine", made.engine.stat().st_size)
    assert engine.asked == {"nvfp4": (5, 5)}
    assert len(engine.kernels) == len(record.rows)
    assert engine.launches == record.audit.kernels == sum(kernel.launches for kernel in engine.kernels)
    # Lowered again from the file, the shapes are those that the build had: so is the modelled time.
    assert engine.microseconds == pytest.approx(record.cost["microseconds_modelled"], abs=0.001)
    gemms = [kernel for kernel in engine.kernels if kernel.kind == "FP4 GEMM"]
    assert sorted(name for kernel in gemms for name in kernel.layers) == sorted(LAYERS)
    shared = [layer.microseconds for layer in page.report.layers if layer.realized]
    assert sum(shared) == pytest.approx(sum(kernel.microseconds for kernel in gemms))


def test_another_gpu(made):
    engine = collect(made.onnx, gpu="DGX Spark").engine
    assert engine.gpu == "dgx-spark"
    assert engine.gpu_source == find_gpu("dgx-spark").source
    with pytest.raises(UnknownGpuError):
        collect(made.onnx, gpu="h100")


def test_without_an_engine(made, tmp_path):
    alone = tmp_path / "a model.onnx"
    alone.write_bytes(made.onnx.read_bytes())
    report = collect(alone)
    assert report.engine is None
    assert {missing.section for missing in report.missing} == {"engine", "errors", "activations"}
    assert report.missing[0].how == "nvfp4-trt build engine 'a model.onnx' -o 'a model.engine'"
    assert report.plan.gpus[0].gpu == "rtx5090"
    for given in (made.engine, made.onnx.with_name("heads.engine.json")):
        assert collect(alone, engine=given).engine.file == "heads.engine"


def test_without_an_engine_kernels_and_times_are_those_of_the_plan(made, tmp_path):
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(made.onnx.read_bytes())
    dims = ["batch=1:8:32", "sequence=1:128:512"]
    report = collect(alone, gpu="b200", dims=dims)
    expected = nvfp4_trt.plan(alone, gpus=["b200"], dims=dims).gpus[0]
    shown = report.plan.gpus[0]
    assert shown.engine("nvfp4") == expected.engine("nvfp4")
    assert shown.engine("bf16").microseconds_modelled == expected.engine("bf16").microseconds_modelled
    assert shown.engine("bf16").rows == ()  # 500 layers are to stay below 5 MB
    linear = [row for row in expected.engine("nvfp4").rows if row.kind == "linear"]
    timed = [layer for layer in report.layers if layer.microseconds]
    assert {layer.name for layer in timed} == LAYERS
    assert sum(layer.microseconds for layer in timed) == pytest.approx(
        sum(row.microseconds_modelled for row in linear)
    )
    parts = time_by_kind(report.plan)
    assert sum(part.launches for part in parts) == expected.engine("nvfp4").kernels
    assert parts[0].microseconds == max(part.microseconds for part in parts)


def test_the_plan_beside_an_engine_is_of_its_profile(made):
    assert collect(made.onnx).plan is None
    report = collect(made.onnx, gpu="rtx5090")
    built, *predicted = engines_of(report.plan, report.engine)
    assert [each.precision for each in predicted] == ["nvfp4", "fp8", "bf16"]
    assert (built.kernels, built.engine_bytes) == (report.engine.launches, made.engine.stat().st_size)
    dims = ["batch=1:2:8", "sequence=1:6:24"]
    expected = nvfp4_trt.plan(made.onnx, gpus=["rtx5090"], dims=dims, optimize="off").gpus[0].engine("nvfp4")
    assert predicted[0].kernels == expected.kernels
    assert report.plan.shapes["x"] == report.engine.profile["x"][1]
    assert report.commands[-1].endswith("--engine heads.engine --gpu rtx5090")
    with pytest.raises(WrongKindError, match="--dim"):
        collect(made.onnx, gpu="rtx5090", dims=["batch=4"])


def test_what_cannot_be_planned_is_reported_without_a_plan(made, tmp_path):
    model = onnx.load(made.onnx)
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]
    onnx.save(model, tmp_path / "odd.onnx")
    report = collect(tmp_path / "odd.onnx")
    assert report.plan is None
    assert "none could be planned" in report.missing[0].what
    with pytest.raises(OnnxInvalidError):
        collect(tmp_path / "odd.onnx", gpu="rtx5090")


def test_commands_that_make_it_again(page):
    pip, export, build, again = page.report.commands
    assert "torch==2.13.0" in pip
    assert export == (
        "nvfp4-trt export MODEL -o heads.onnx --recipe w4a4-dynamic-token --inputs INPUTS "
        "--dynamic x:batch,sequence,_"
    )
    assert "--dim batch=1:2:8 --dim sequence=1:6:24 --optimize off" in build
    assert again == "nvfp4-trt report heads.onnx -o report.html --engine heads.engine"


def test_bad_input(made, portable, tmp_path):
    other = portable("mlp").path
    with pytest.raises(WrongKindError, match=r"heads\.engine\.json is of an engine of another model"):
        collect(other, engine=made.engine)
    with pytest.raises(FileMissingError, match=r"no\.engine"):
        collect(other, engine=tmp_path / "no.engine")
    (tmp_path / "bad.engine.json").write_text("{}")
    with pytest.raises(NotAModelError, match="not an engine's record"):
        collect(other, engine=tmp_path / "bad.engine.json")
    (tmp_path / "alone.engine").write_bytes(b"engine")
    with pytest.raises(FileMissingError, match=r"alone\.engine\.json"):
        collect(other, engine=tmp_path / "alone.engine")
    with pytest.raises(FileMissingError):
        collect(tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(NotAModelError):
        collect(tmp_path / "text.onnx")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), tmp_path / "empty.onnx")
    with pytest.raises((NotAModelError, NotOurOnnxError)):
        collect(tmp_path / "empty.onnx")


@pytest.mark.parametrize("recipe", ["w4a16", "w4a4-single-level", "w4a4-static"])
def test_every_recipe(portable, recipe):
    report = collect(portable("gpt2", recipe).path)
    assert report.recipe.name == recipe
    tied = {layer.name: layer for layer in report.layers if layer.shape == (320, 64)}
    assert set(tied) == {"wte", "lm_head"}
    assert sum(layer.bytes > 0 for layer in tied.values()) == 1  # a shared weight is in the file once
