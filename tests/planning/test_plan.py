"""Plans of small models: what they say, what they refuse, and that they read no weights."""

import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import nn

import nvfp4_trt
from nvfp4_trt.benching import Bench, BenchRow
from nvfp4_trt.errors import (
    BenchInvalidError,
    FileMissingError,
    OnnxInvalidError,
    ProfileError,
    UnknownGpuError,
    WrongKindError,
)
from nvfp4_trt.timing import Summary

BATCH = [{"x": torch.ones(4, 64)}]


def mlp(width=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, width)).eval()


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "mlp.onnx"
    nvfp4_trt.export(mlp(), path, inputs=[{"input": torch.ones(4, 64)}], dynamic=("batch",), recipe="w4a4-static")
    return path


def test_every_layer_has_a_row_and_rows_add_up(portable):
    plan = nvfp4_trt.plan(portable, gpus=["rtx5090", "b200"], dims=["batch=1:128:256"])
    assert [gpu.gpu for gpu in plan.gpus] == ["rtx5090", "b200"]
    for gpu in plan.gpus:
        assert [each.precision for each in gpu.engines] == ["nvfp4", "fp8", "bf16"]
        for engine in gpu.engines:
            assert {"0", "2"} <= {row.name for row in engine.rows if row.kind == "linear"}
            assert sum(row.kernels for row in engine.rows) == engine.kernels
            modelled = sum(row.microseconds_modelled for row in engine.rows)
            assert modelled == pytest.approx(engine.microseconds_modelled, abs=0.01)
            assert sum(engine.bounds.values()) == pytest.approx(engine.microseconds_modelled, abs=0.01)
            assert engine.fits
    ours = plan.gpus[0].engine("nvfp4")
    assert {row.precision for row in ours.rows if row.kind == "linear"} == {"fp4"}
    assert plan.shapes == {"input": (128, 64)}
    assert plan.largest == {"input": (256, 64)}


def test_weights_get_smaller_with_the_precision(portable):
    engines = {each.precision: each for each in nvfp4_trt.plan(portable, gpus=["thor"]).gpus[0].engines}
    assert engines["nvfp4"].weight_bytes < engines["fp8"].weight_bytes < engines["bf16"].weight_bytes
    assert engines["bf16"].weight_bytes >= 2 * 2 * 64 * 128


def test_a_module_is_exported_first(tmp_path):
    plan = nvfp4_trt.plan(mlp(), gpus=["dgx-spark"], inputs=[{"input": torch.ones(4, 64)}], recipe="w4a4-static")
    assert plan.source == "Sequential"
    assert plan.recipe == "w4a4-static"


def test_no_weight_is_read(portable, tmp_path, monkeypatch):
    """With its data beside it, in a file that has become garbage."""
    model = onnx.load(portable)
    path = tmp_path / "apart.onnx"
    onnx.save(model, path, save_as_external_data=True, location="apart.data", size_threshold=128)
    read = ir.ExternalTensor.numpy
    monkeypatch.setattr(
        ir.ExternalTensor, "numpy", lambda self: pytest.fail(self.name) if self.size > 64 else read(self)
    )
    assert nvfp4_trt.plan(path, gpus=["b200"]) == nvfp4_trt.plan(portable, gpus=["b200"]).model_copy(
        update={"source": str(path)}
    )


def test_a_gpu_too_small_is_said(portable, monkeypatch):
    from nvfp4_trt.costing import GPUS

    small = GPUS["rtx5080"].model_copy(update={"memory_gb": 0.001})
    monkeypatch.setitem(GPUS, "rtx5080", small)
    assert not nvfp4_trt.plan(portable, gpus=["rtx5080"]).gpus[0].engine("nvfp4").fits


def measured(path, *, gpu="rtx5090", modelled=0.010):
    summary = dict.fromkeys(Summary.model_fields, 0.03)
    row = BenchRow(
        name="mlp.engine",
        precision="nvfp4",
        shape={"input": (4, 64)},
        median_ms=0.030,
        modelled_ms=modelled,
        batch=4,
        rows_per_second=1.0,
        plain=Summary.model_validate(summary | {"count": 10}),
        peak_bytes=1,
        engine_bytes=1,
    )
    told = {"device": "", "architecture": "", "driver": "", "backend": "", "version": ""}
    Bench(gpu=gpu, modelled_on=gpu, results=(row,), **told).save(path)
    return path


def test_times_are_scaled_by_a_benchmark_of_that_gpu(portable, tmp_path):
    plain = nvfp4_trt.plan(portable, gpus=["rtx5090", "b200"])
    scaled = nvfp4_trt.plan(portable, gpus=["rtx5090", "b200"], calibrate=measured(tmp_path / "bench.json"))
    ours, theirs = scaled.gpus[0].engine("nvfp4"), plain.gpus[0].engine("nvfp4")
    assert scaled.gpus[0].calibrated == {"nvfp4": pytest.approx(3.0)}
    assert ours.microseconds_modelled == pytest.approx(3 * theirs.microseconds_modelled, rel=1e-3)
    assert ours.rows[-1].microseconds_modelled == pytest.approx(
        3 * theirs.rows[-1].microseconds_modelled, abs=0.01
    )
    assert scaled.gpus[1] == plain.gpus[1]


@pytest.mark.parametrize(
    ("wrong", "told"), [({"gpu": "b200"}, "measured on b200"), ({"modelled": None}, "no row has both")]
)
def test_a_benchmark_that_says_nothing_is_refused(portable, tmp_path, wrong, told):
    with pytest.raises(BenchInvalidError, match=told):
        nvfp4_trt.plan(portable, gpus=["rtx5090"], calibrate=measured(tmp_path / "bench.json", **wrong))


def test_what_does_not_fit_is_refused_by_name(portable, tmp_path):
    with pytest.raises(UnknownGpuError, match="rtx4090"):
        nvfp4_trt.plan(portable, gpus=["rtx4090"])
    with pytest.raises(ProfileError, match="rows"):
        nvfp4_trt.plan(portable, dims=["rows=4"])
    with pytest.raises(WrongKindError, match="--recipe"):
        nvfp4_trt.plan(portable, recipe="w4a4-static")
    with pytest.raises(FileMissingError):
        nvfp4_trt.plan(tmp_path / "none.onnx")


def edited(portable, path, change):
    model = onnx.load(portable)
    change(model.graph)
    onnx.save(model, path)
    return path


def test_a_cyclic_graph_is_one_error(portable, tmp_path):
    def cycle(graph):
        graph.node[0].input[0] = graph.node[-1].output[0]

    with pytest.raises(OnnxInvalidError, match="cyclic"):
        nvfp4_trt.plan(edited(portable, tmp_path / "cycle.onnx", cycle))


def test_an_operator_that_nothing_is_known_of_is_a_row_and_a_note(portable, tmp_path):
    def foreign(graph):
        last = graph.node[-1]
        graph.node.append(helper.make_node("Größer", [last.output[0]], ["end"], name="größer ✓", domain="acme"))
        graph.output[0].name = "end"

    path = edited(portable, tmp_path / "größer ✓.onnx", foreign)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("acme", 1))
    onnx.save(model, path)
    plan = nvfp4_trt.plan(path, gpus=["rtx5090"])
    rows = {row.name: row for row in plan.gpus[0].engine("nvfp4").rows}
    assert rows["größer ✓"].kind == "opaque"
    assert any("acme::Größer" in note for note in plan.notes)


def test_a_graph_without_shapes_or_with_empty_ones_is_planned(portable, tmp_path):
    plain = nvfp4_trt.plan(portable, gpus=["rtx5090"])
    found = nvfp4_trt.plan(
        edited(portable, tmp_path / "bare.onnx", lambda graph: graph.ClearField("value_info")), gpus=["rtx5090"]
    )
    assert found.gpus[0].engine("nvfp4").kernels >= plain.gpus[0].engine("nvfp4").kernels

    def empty(graph):
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0

    zero = nvfp4_trt.plan(edited(portable, tmp_path / "zero.onnx", empty), gpus=["rtx5090"])
    assert np.isfinite(zero.gpus[0].engine("nvfp4").microseconds_modelled)


def test_a_file_is_planned_without_torch(portable):
    code = (
        "import sys; from pathlib import Path; from nvfp4_trt.planning import plan_file; "
        f"plan_file(Path({str(portable)!r}), gpus=['b200']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
