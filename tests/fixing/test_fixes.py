"""Rewrites of a float module: the same function, and FP4 in the engine afterwards."""

import json

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nvfp4_trt
from nvfp4_trt.checking import check
from nvfp4_trt.errors import FixChangedMeaningError, WrongKindError
from nvfp4_trt.fixing import FIXES, fix_module
from nvfp4_trt.fixing import apply as applying
from nvfp4_trt.fixing.padded_k import PaddedLinear
from nvfp4_trt.fixing.patches import PatchLinear
from nvfp4_trt.fixing.pointwise import PointwiseLinear

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Vision(nn.Module):
    """A patch embedding, a 1x1 convolution, and linear layers whose K must be padded."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 8, stride=8)
        self.mix = nn.Conv2d(64, 96, 1)
        self.thin = nn.Conv2d(3, 32, 1)
        self.odd, self.small = nn.Linear(100, 64), nn.Linear(16, 48)
        self.kept = nn.Conv2d(64, 32, 3)

    def forward(self, x):
        tokens = self.patches(x)
        mixed = self.mix(tokens)
        rows = tokens.flatten(2)
        return (
            mixed,
            self.thin(x),
            self.odd(x.flatten(2)[..., :100]),
            self.small(rows[..., :16]),
            self.kept(tokens),
        )


def vision():
    torch.manual_seed(0)
    return Vision().eval(), {"x": torch.randn(2, 3, 32, 40)}


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@given(
    rank=st.integers(1, 3),
    batch=st.integers(0, 2),
    channels=st.integers(1, 5),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_pointwise_convolution_is_a_linear_layer(rank, batch, channels, bias, seed):
    torch.manual_seed(seed)
    layer = CONVOLUTIONS[rank](channels, 6, 1, bias=bias)
    x = torch.randn(*[batch][: batch and 1], channels, *[4, 5, 3][:rank])
    same(PointwiseLinear(layer)(x), layer(x))


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(4, 9)), min_size=1, max_size=3),
    batch=st.integers(0, 2),
    channels=st.integers(1, 3),
    bias=st.booleans(),
)
def test_a_convolution_over_patches_is_a_linear_layer(sizes, batch, channels, bias):
    kernel = tuple(size for size, _ in sizes)
    layer = CONVOLUTIONS[len(sizes)](channels, 5, kernel, stride=kernel, bias=bias)
    x = torch.randn(*[batch][: batch and 1], channels, *(extent for _, extent in sizes))
    same(PatchLinear(layer)(x), layer(x))


@given(k=st.integers(1, 70), n=st.integers(1, 5), lead=st.lists(st.integers(1, 3), max_size=3), bias=st.booleans())
def test_a_padded_linear_layer_is_the_same(k, n, lead, bias):
    layer = nn.Linear(k, n, bias=bias)
    x = torch.randn(*lead, k)
    padded = PaddedLinear(layer)
    assert padded.linear.in_features % 16 == 0
    assert padded.linear.in_features >= 32
    same(padded(x), layer(x))


def test_a_hugging_face_conv1d_is_padded_too():
    from transformers.pytorch_utils import Conv1D

    layer, x = Conv1D(48, 40), torch.randn(3, 40)
    same(PaddedLinear(layer)(x), layer(x))


def test_every_fix_is_applied_and_the_module_stays_as_it_was():
    module, batch = vision()
    fixed = fix_module(module, batch)
    assert set(fixed.layers.values()) == set(FIXES)
    assert isinstance(module.patches, nn.Conv2d)
    for ours, theirs in zip(fixed.module(**batch), module(**batch), strict=True):
        same(ours, theirs)
    left = {layer.name: layer.code for layer in check(fixed.module).layers if layer.precision != "nvfp4"}
    assert left == {"kept": "convolution"}


def test_in_place_it_is_the_module_itself():
    module, batch = vision()
    assert fix_module(module, batch, inplace=True).module is module
    assert isinstance(module.patches, PatchLinear)


def test_a_module_that_is_the_layer_itself():
    layer = nn.Linear(40, 48).eval()
    assert isinstance(fix_module(layer, {"input": torch.randn(2, 40)}).module, PaddedLinear)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Doubled(40, 48), (2, 40)),
        (nn.Conv2d(8, 32, 1, stride=2), (1, 8, 4, 4)),
        (nn.Conv2d(8, 32, 2, stride=2, padding=1), (1, 8, 4, 4)),
        (nn.Conv2d(8, 32, 1, groups=2), (1, 8, 4, 4)),
        (nn.Conv2d(8, 32, 2, stride=2, dilation=2), (1, 8, 8, 8)),
        (nn.ConvTranspose2d(8, 32, 2, stride=2), (1, 8, 4, 4)),
        (nn.Linear(64, 1), (2, 64)),
    ],
    ids=str,
)
def test_what_would_change_stays(layer, shape):
    root = nn.Sequential(layer).eval()
    assert fix_module(root, {"input": torch.randn(shape)}).layers == {}


def test_a_rewrite_that_changes_the_meaning_is_found(monkeypatch):
    class Wrong(PaddedLinear):
        def forward(self, x):
            return super().forward(x) * 1.01

    monkeypatch.setitem(applying.FIXES, "k-not-blocks", Wrong)
    module, batch = vision()
    with pytest.raises(FixChangedMeaningError, match=r"'output_1'.*thin"):
        fix_module(module, batch)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_stay_so(broken):
    module, batch = vision()
    batch["x"][0, 0, 0, 0] = broken
    assert fix_module(module, batch).layers


def test_scales_found_before_belong_to_other_layers(tmp_path):
    module, batch = nn.Linear(64, 64).eval(), {"input": torch.randn(2, 64)}
    found = nvfp4_trt.calibrate(module, inputs=[batch], recipe="w4a4-static")
    with pytest.raises(WrongKindError, match="--fix"):
        nvfp4_trt.export(module, tmp_path / "m.onnx", inputs=[batch], calibration=found, fix=True)


def test_a_file_of_rewritten_layers_is_compared_by_their_names(tmp_path):
    module, batch = vision()
    path = tmp_path / "m.onnx"
    nvfp4_trt.export(module, path, inputs=[batch], fix=True)
    props = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert json.loads(props["nvfp4.fixed"])["patches"] == "patch-embedding"
    found = nvfp4_trt.compare(path, module, inputs=[batch], per_layer=True).layers
    found.check()
    names = {"patches.linear", "mix.linear", "thin.linear.linear", "odd.linear", "small.linear"}
    assert {layer.name for layer in found.layers} == names
    assert isinstance(module.patches, nn.Conv2d)
    reported = nvfp4_trt.report(path, tmp_path / "m.html", reference=module, inputs=[batch])
    assert reported.page.is_file()


@pytest.mark.long
def test_rewritten_layers_are_fp4_in_the_engine(tmp_path):
    module, batch = vision()
    path = tmp_path / "m.onnx"
    exported = nvfp4_trt.export(module, path, inputs=[batch], dynamic=["batch"], fix=True)
    built = nvfp4_trt.build(exported, tmp_path / "m.engine", backend="tensorrt_rtx", optimize="off")
    realized = {layer.name for layer in built.audit.layers if layer.realized}
    assert realized == {"patches.linear", "mix.linear", "thin.linear.linear", "odd.linear", "small.linear"}
    assert {layer.name for layer in check(path).layers if layer.precision == "nvfp4"} == realized
