"""Layers with one weight, or equal ones: each has its own GEMM in the file, and in the engine's audit."""

import pytest
import torch
from parts import Shared

import nvfp4_trt
from nvfp4_trt.layers import FP8, NVFP4, WEIGHT_ONLY
from nvfp4_trt.portable import find_sites, load

BESIDE = ("tied", "tied_beside", "tied_behind", "first", "copy_beside", "copy_behind")
LAYERS = {"twice": 2, "alias": 2, **dict.fromkeys(BESIDE, 1)}
"""How many GEMMs each layer has; `alias` runs under a second name too."""
OWN = ["alias", "copy_behind", "copy_beside", "first", "tied_behind", "twice"]
"""The layers under whose names weights are stored; torch gives what is tied the last of its names."""


def exported(folder, recipe="w4a4-dynamic-token", width=32, **options):
    torch.manual_seed(0)
    path = folder / "shared.onnx"
    batch = {"x": torch.randn(2, 6, width)}
    nvfp4_trt.export(Shared(width).eval(), path, recipe=recipe, inputs=[batch], **options)
    return path


@pytest.mark.parametrize("width", [32, 64], ids=["shared-as-equal-constants-are", "larger"])
@pytest.mark.parametrize(("fp8", "suffix"), [((), ".weight_packed"), (("*",), ".weight_fp8")], ids=["fp4", "fp8"])
def test_every_layer_has_its_gemm_and_a_weight_is_stored_once(tmp_path, width, fp8, suffix):
    model, metadata = load(exported(tmp_path, width=width, fp8=fp8))
    layers = [site.layer for site in find_sites(model.graph)]
    assert {name: layers.count(name) for name in layers} == LAYERS
    assert [layer.name for layer in metadata.layers] == list(LAYERS)
    stored = sorted(name.removesuffix(suffix) for name in model.graph.initializers if name.endswith(suffix))
    assert stored == OWN
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    assert {"twice/MatMul", "twice/MatMul_2", "tied/MatMul", "tied_beside/MatMul"} <= set(names)


@pytest.mark.long
@pytest.mark.parametrize(
    ("recipe", "width", "precision"),
    [
        ("w4a4-dynamic-token", 32, NVFP4),
        ("w4a4-dynamic", 64, NVFP4),
        ("w4a4-static", 32, NVFP4),
        ("w4a16", 64, WEIGHT_ONLY),
        ("w4a4-dynamic-token", 64, FP8),
        ("w4a4-static", 32, FP8),
    ],
)
def test_the_engine_has_every_one_of_them(tmp_path, recipe, width, precision):
    path = exported(tmp_path, recipe, width, fp8=("*",) if precision == FP8 else ())
    engine = nvfp4_trt.build(path, tmp_path / "e.engine", backend="tensorrt_rtx", optimize="off")
    assert engine.audit.counts(precision) == (len(LAYERS), len(LAYERS))
    rows = {layer.name: layer.row for layer in engine.audit.layers}
    assert rows["tied"] == rows["tied_beside"] != rows["tied_behind"]
