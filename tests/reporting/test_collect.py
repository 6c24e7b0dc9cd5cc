"""A report's data, against the files that it is of."""

import onnx
import pytest

from nvfp4_trt.building import read_record
from nvfp4_trt.costing import find_gpu
from nvfp4_trt.errors import (
    FileMissingError,
    NotAModelError,
    NotOurOnnxError,
    UnknownGpuError,
    WrongKindError,
)
from nvfp4_trt.reporting import collect

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
    for given in (made.engine, made.onnx.with_name("heads.engine.json")):
        assert collect(alone, engine=given).engine.file == "heads.engine"


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
