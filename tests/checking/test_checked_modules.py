"""PyTorch models: what `check` says of the module, its float ONNX file and the exported files, and the audit."""

import re

import pytest
import torch
from models import GPT2Block, OddMLP
from parts import Heads
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nvfp4_trt
from nvfp4_trt.building import build_engine
from nvfp4_trt.checking import check
from nvfp4_trt.layers import NVFP4
from nvfp4_trt.quantization.select import refusal

K = 1008


class Zoo(nn.Module):
    """A layer of each kind, beside one another."""

    def __init__(self):
        super().__init__()
        shapes = [(K, 48), (1000, 64), (16, 32), (32, 32), (48, 33), (64, 1), (80, 2), (64, 16), (40, 1)]
        self.linears = nn.ModuleDict({f"k{k}n{n}": nn.Linear(k, n) for k, n in shapes})
        self.bare = nn.ModuleDict({f"k{k}n{n}": nn.Linear(k, n, bias=False) for k, n in shapes})
        self.rank4, self.rank2 = nn.Linear(64, 48), nn.Linear(64, 48)
        self.first, self.second = nn.Linear(128, 64), nn.Linear(128, 64)
        self.normed = weight_norm(nn.Linear(64, 64))
        self.pointwise = nn.Conv2d(64, 32, 1)
        self.patches = nn.Conv2d(3, 32, 8, stride=8)
        self.spatial = nn.Conv2d(64, 32, 3, padding=1)
        self.depthwise = nn.Conv1d(64, 64, 3, groups=64, padding=1)
        self.upwards = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x):
        results = [layer(x[..., : layer.in_features]) for layer in (*self.linears.values(), *self.bare.values())]
        results += [self.rank4(x[:, :, :64].reshape(2, 2, 4, 64)), self.rank2(x[:, 0, :64])]
        shared = x[..., :128]
        results += [self.first(shared) + self.second(shared), self.normed(x[..., :64])]
        image = x[..., :512].reshape(2, 64, 8, 8)
        results += [self.pointwise(image), self.spatial(image), self.upwards(image)]
        results += [
            self.patches(x[..., :768].reshape(2, 3, 32, 64)),
            self.depthwise(x[..., :512].reshape(2, 64, 64)),
        ]
        tokens = x[..., :64]
        return (*results, self.attention(tokens, tokens, tokens, need_weights=False)[0])


def zoo():
    torch.manual_seed(0)
    return Zoo().eval(), {"x": torch.randn(2, 8, K)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder of the zoo's files, and the record of its engine."""
    folder = tmp_path_factory.mktemp("zoo")
    module, batch = zoo()
    nvfp4_trt.export(module, folder / "zoo.onnx", inputs=[batch], recipe="w4a4-dynamic-token", dtype="float16")
    torch.onnx.export(module, (), folder / "float.onnx", kwargs=batch, dynamo=True, verbose=False)
    made = build_engine(
        folder / "zoo.onnx",
        folder / "zoo.engine",
        backend="tensorrt_rtx",
        optimize="off",
        lowered=folder / "zoo.trt.onnx",
    )
    return folder, made.record


def fp4_in(checked):
    return {name for x in checked.layers if x.precision == NVFP4 for name in owners(x)}


def owners(verdict):
    """Return the layers of a GEMM of the lowered file: those of one that was merged are `a+b`."""
    head, _, tail = verdict.name.rpartition(".")
    return {f"{head}.{name}".lstrip(".") for name in tail.split("+")}


@pytest.mark.long
@pytest.mark.parametrize("form", ["module", "float.onnx", "zoo.onnx", "zoo.trt.onnx"])
def test_fp4_is_foreseen_where_the_audit_finds_it(built, form):
    folder, record = built
    checked = check(zoo()[0] if form == "module" else folder / form)
    found = {layer.name for layer in record.audit.layers if layer.realized}
    assert len(found) >= 18
    foreseen = fp4_in(checked)
    if form == "float.onnx":  # torch writes the three projections of its attention as one
        found = {re.sub(r"^attention\.[qkv]_proj$", "attention", name) for name in found}
    assert foreseen == found
    assert checked.quantized == form.startswith("zoo")


@pytest.mark.long
def test_nothing_else_is_fp4_in_the_engine(built):
    folder, record = built
    nodes = {node for row in record.rows if row.is_fp4_gemm for node in row.onnx}
    others = [x.node for x in check(folder / "zoo.onnx").layers if x.precision != NVFP4]
    assert len(others) >= 10
    assert not nodes & set(others)


@pytest.mark.parametrize(
    ("name", "code", "remedy"),
    [
        ("linears.k1000n64", "k-not-blocks", "pad K from 1000 to 1008"),
        ("linears.k16n32", "k-small", "pad K from 16 to 32"),
        ("linears.k64n1", "n-one", "pad N from 1 to 2"),
        ("pointwise", "convolution-1x1", "rewrite this 1x1 convolution as a MatMul over the channels (K = 64)"),
        ("patches", "patch-embedding", "(K = 192)"),
        ("spatial", "convolution", ""),
        ("depthwise", "convolution", ""),
        ("upwards", "convolution", ""),
        ("linears.k48n33", "tiny", "--exclude linears.k48n33"),
    ],
)
def test_each_reason_has_its_remedy(name, code, remedy):
    (verdict,) = (layer for layer in check(zoo()[0]).layers if layer.name == name)
    assert verdict.code == code
    assert remedy in verdict.remedy


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.Linear(k, n) for k in (8, 16, 31, 32, 48, 100) for n in (1, 2, 3, 64)),
        *(nn.Linear(64, 64).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)),
        nn.Conv1d(32, 32, 1),
        nn.Conv3d(3, 32, 2, stride=2),
        nn.Conv2d(32, 32, 1, padding="same"),
        nn.Bilinear(32, 32, 32),
        nn.LSTM(32, 32),
        nn.GRUCell(32, 32),
        nn.MultiheadAttention(32, 2, add_zero_attn=True),
        Scaled(64, 64),
    ],
    ids=str,
)
def test_a_layer_is_fp4_where_export_takes_it(layer):
    (verdict,) = check(nn.Sequential(layer)).layers
    assert (verdict.precision == NVFP4) == (refusal(layer) is None)
    assert bool(verdict.reason) or verdict.precision == NVFP4


@pytest.mark.parametrize("module", [OddMLP(), GPT2Block(), Heads()], ids=lambda m: type(m).__name__)
def test_a_module_stays_as_it_is(module):
    before = {name: id(value) for name, value in module.named_parameters()}
    names = [name for name, _ in module.named_modules()]
    assert any(layer.precision == NVFP4 for layer in check(module).layers)
    assert {name: id(value) for name, value in module.named_parameters()} == before
    assert [name for name, _ in module.named_modules()] == names


@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a16"])
@pytest.mark.parametrize("fp8", [("fc2",), ()])
def test_a_quantized_model_is_judged_as_it_is(recipe, fp8):
    recipe = nvfp4_trt.RECIPES[recipe].model_copy(update={"fp8": fp8, "exclude": ("fc3",)})
    quantized = nvfp4_trt.quantize(OddMLP().eval(), recipe)
    checked = check(quantized)
    assert checked.quantized
    assert {x.name: x.precision for x in checked.layers} == {x.name: x.precision for x in quantized.layers}
    assert {x.name: x.code for x in checked.layers if x.name in {"fc3", "head"}} == {
        "fc3": "told",
        "head": "n-one",
    }


def test_a_checkpoint_is_judged_as_it_is(tmp_path):
    nvfp4_trt.save(nvfp4_trt.quantize(OddMLP().eval()), tmp_path / "m.safetensors")
    checked = check(tmp_path / "m.safetensors", factory="models:OddMLP")
    assert checked.quantized
    fp4 = {layer.name for layer in checked.layers if layer.precision == NVFP4}
    assert fp4 == {"fc1", "fc3"}


def test_a_tied_embedding_has_no_row():
    assert "wte" not in {layer.name for layer in check(nvfp4_trt.quantize(GPT2Block().eval())).layers}
