"""Linears that share an activation in one GEMM: what moves, what is left apart, what TensorRT builds."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from both_sides import CASES, apply, around, assert_leaves_alone, assert_same_bits, error, prefix
from torch import nn

import nvfp4_trt
from nvfp4_trt.building import build_engine
from nvfp4_trt.layers import FP8, NVFP4
from nvfp4_trt.passes import PIPELINE, MergeLinears, lower
from nvfp4_trt.passes.graph import array_of
from nvfp4_trt.passes.plugin_nodes import layers_of
from nvfp4_trt.portable import find_sites, load

BOUND = {"float32": 2**-22, "float16": 2**-9, "bfloat16": 2**-6}
"""Largest difference of any output, as a share of its largest value. Measured on what no later quantizer hides:
9e-8, 7.5e-4 (2^-10.4) and 0.006 (2^-7.4)."""


class Gated(nn.Module):
    """A gate and an up projection; the weights are of very different sizes."""

    def __init__(self, up=96):
        super().__init__()
        self.gate, self.up = nn.Linear(64, 96, bias=False), nn.Linear(64, up, bias=False)
        self.down = nn.Linear(96, 64, bias=False)
        with torch.no_grad():
            self.up.weight.mul_(0.01)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x)[..., :96])


class Pair(nn.Module):
    """Two linears whose results are the outputs, the second one's a sixteenth of the first one's."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(64, 48), nn.Linear(64, 40, bias=False)
        with torch.no_grad():
            self.right.weight.mul_(0.07)

    def forward(self, x):
        return self.left(x), self.right(x)


class Twice(nn.Module):
    """One activation that linears of two modules read."""

    def __init__(self):
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Linear(64, 32)) for _ in range(2))

    def forward(self, x):
        return self.left(x) + self.right(x)


def exported(module, folder, recipe="w4a4-static", dtype=torch.float16, fp8=()):
    torch.manual_seed(0)
    path = folder / "model.onnx"
    x = torch.randn(2, 16, 64).to(dtype)
    options = {"inputs": [{"x": x}], "dynamic": ("batch,sequence",), "fp8": fp8}
    nvfp4_trt.export(module.eval().to(dtype), path, recipe=recipe, **options)
    return path


@pytest.mark.parametrize("case", [c for c in CASES if c[0] in {"heads", "encoder"}], ids="-".join)
def test_meaning_moves_by_rounding_alone(portable, case):
    run = around(MergeLinears, portable(*case))
    assert run.changes == (0 if case[1] == "w4a16" else 1)
    assert error(run) < BOUND[case[2]]


@pytest.mark.parametrize("name", ["rows", "bare", "rank4", "mlp"])
def test_nothing_to_merge(portable, name):
    assert_leaves_alone(MergeLinears, prefix(MergeLinears, portable(name).path))


def test_codes_and_block_scales_are_stacked_as_they_are(portable):
    model = prefix(MergeLinears, portable("heads").path)
    apart = [site for site in find_sites(model.graph) if site.layer in {"query", "key", "value"}]
    parts = [[array_of(site.weight.inputs[index]) for site in apart] for index in range(3)]
    MergeLinears().run(model)
    (site,) = (site for site in find_sites(model.graph) if site.layer == "query+key+value")
    assert layers_of(site.weight) == ("query", "key", "value")
    packed, steps, scale = (array_of(value) for value in site.weight.inputs)
    for whole, pieces in ((packed, parts[0]), (steps, parts[1])):
        assert whole.tobytes() == np.concatenate(pieces).tobytes()
    assert scale == max(parts[2])
    shares = array_of(site.gemm.outputs[0].uses()[0].node.inputs[1])
    assert shares.max() == 1
    assert np.array_equal(shares[::64], np.array(parts[2]) / scale)
    assert not [name for name in model.graph.initializers if name.startswith(("query.weight_p", "key.weight_p"))]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("recipe", ["w4a4-static", "w4a4-dynamic-token"])
def test_a_small_weight_beside_a_large_one_moves_by_rounding_alone(recipe, dtype, tmp_path):
    """Its columns grow by the ratio and are multiplied by it: the largest scale is the merged one."""
    path = exported(Pair(), tmp_path, recipe, getattr(torch, dtype))
    model = prefix(MergeLinears, path)
    x = np.random.default_rng(0).normal(0, 1, (4, 32, 64))
    run = apply(MergeLinears, model, {"x": x.astype(model.graph.inputs[0].dtype.numpy())})
    assert run.changes == 1
    assert error(run) < BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("recipe", ["w4a4-static", "w4a4-dynamic-token"])
def test_fp8_layers_keep_their_meaning_bit_for_bit(recipe, dtype, tmp_path):
    model = prefix(MergeLinears, exported(Pair(), tmp_path, recipe, getattr(torch, dtype), fp8=("*",)))
    x = np.random.default_rng(0).normal(0, 1, (4, 32, 64)).astype(model.graph.inputs[0].dtype.numpy())
    run = apply(MergeLinears, model, {"x": x})
    assert run.changes == 1
    assert_same_bits(run)
    (site,) = find_sites(model.graph)
    assert layers_of(site.weight) == ("left", "right")
    assert [list(value.shape) for value in site.weight.inputs] == [[88, 64], [88, 1]]
    assert not [name for name in model.graph.initializers if name.startswith(("left.weight", "right.weight"))]


def test_an_fp4_layer_and_an_fp8_layer_stay_apart(tmp_path):
    assert_leaves_alone(MergeLinears, prefix(MergeLinears, exported(Pair(), tmp_path, fp8=("left",))))


@pytest.mark.parametrize("module", [Twice(), Gated(up=100)], ids=["of-two-modules", "no-multiple-of-8"])
def test_what_is_left_apart(module, tmp_path):
    assert_leaves_alone(MergeLinears, prefix(MergeLinears, exported(module, tmp_path)))


def test_shared_weights_are_not_copied(portable):
    model = prefix(MergeLinears, portable("heads").path)
    query = next(site for site in find_sites(model.graph) if site.layer == "query")
    weight = query.weight.outputs[0]
    copy = ir.node("Neg", [weight], name="elsewhere")
    copy.outputs[0].name, copy.outputs[0].type, copy.outputs[0].shape = "elsewhere", weight.type, weight.shape
    model.graph.append(copy)
    model.graph.outputs.append(copy.outputs[0])
    MergeLinears().run(model)
    assert {site.layer for site in find_sites(model.graph)} >= {"query", "key+value"}


@pytest.mark.parametrize("plugin", [False, True])
def test_layers_are_traced(portable, plugin):
    """Each layer's GEMM and scale are told, also where several share them."""
    model, _ = load(portable("heads").path)
    lowering = lower(model, plugin=plugin)
    merged = {**lowering.gemms, **lowering.plugin_gemms}
    assert ("query", "key", "value") in merged.values()
    assert len({lowering.scales[name] for name in ("query", "key", "value")}) == 1


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["w4a4-static", "w4a4-dynamic-token"])
def test_tensorrt_builds_one_fp4_gemm(recipe, tmp_path):
    engine = build_engine(exported(Gated(), tmp_path, recipe), tmp_path / "e.engine", backend="tensorrt_rtx")
    assert engine.audit.counts() == (3, 3)
    gate, up, down = engine.audit.layers
    assert gate.row == up.row != down.row
    assert sum(row.type == "gemm" for row in engine.record.rows) == 2
    assert not any(row.type in {"wait", "signal"} for row in engine.record.rows)


@pytest.mark.long
@pytest.mark.parametrize(
    ("recipe", "fp8"), [("w4a4-static", ()), ("w4a4-static", ("*",)), ("w4a4-dynamic-token", ("*",))]
)
def test_without_the_pass_there_are_more(recipe, fp8, tmp_path, monkeypatch):
    """The fact that the pass lives on: TensorRT leaves FP8 layers apart, and FP4 ones with a static scale."""
    path = exported(Gated(), tmp_path, recipe, fp8=fp8)
    merged = build_engine(path, tmp_path / "merged.engine", backend="tensorrt_rtx")
    without = tuple(kind for kind in PIPELINE if kind is not MergeLinears)
    monkeypatch.setattr("nvfp4_trt.passes.PIPELINE", without)
    apart = build_engine(path, tmp_path / "apart.engine", backend="tensorrt_rtx")
    assert merged.audit.kernels < apart.audit.kernels
    assert merged.audit.counts(FP8 if fp8 else NVFP4) == (3, 3)
    assert sum(row.type == "gemm" for row in merged.record.rows) == 2
    assert merged.audit.weight_bytes == apart.audit.weight_bytes
