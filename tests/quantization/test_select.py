import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from nvfp4_trt.errors import NothingToQuantizeError, PatternMatchesNothingError
from nvfp4_trt.quantization import select
from nvfp4_trt.recipe import RECIPES

RECIPE = RECIPES["w4a4-dynamic-token"]


class Scaled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x):
        return super().forward(x) * 2


class Renamed(nn.Linear):
    """A subclass that computes the same."""


def beside_a_good_one(module):
    return nn.ModuleDict({"good": nn.Linear(64, 32), "odd": module})


def conv1d(n, k):
    from transformers.pytorch_utils import Conv1D

    return Conv1D(n, k)


def attention(**options):
    return nn.MultiheadAttention(64, 4, **options)


class LoudAttention(nn.MultiheadAttention):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


REFUSED = {
    "overridden": (Scaled(64, 32), "Scaled overrides Linear.forward", "float32"),
    "N": (nn.Linear(64, 1), "N = 1: TensorRT builds no GEMM", "float32"),
    "short K": (nn.Linear(16, 32), "K = 16 < 32: TensorRT builds no FP4 GEMM", "float32"),
    "odd K": (nn.Linear(100, 32), "K = 100 is not a multiple of 16", "float32"),
    "odd K of Conv1D": (conv1d(64, 40), "K = 40 is not a multiple of 16", "float32"),
    "float64": (nn.Linear(64, 32).double(), "its weight is float64", "float64"),
    "convolution": (nn.Conv2d(16, 32, 3), "convolution: TensorRT has no FP4 convolution", "float32"),
    "transposed": (nn.ConvTranspose1d(16, 32, 3), "convolution: TensorRT has no FP4 convolution", "float32"),
    "LSTM": (nn.LSTM(64, 64), "LSTM: its GEMMs are inside one operator", "float32"),
    "GRUCell": (nn.GRUCell(64, 64).half(), "GRUCell: its GEMMs are inside one operator", "float16"),
    "bilinear": (nn.Bilinear(64, 64, 2), "Bilinear: its GEMMs are inside one operator", "float32"),
    "bias_kv": (attention(add_bias_kv=True), "MultiheadAttention with add_bias_kv", "float32"),
    "zero_attn": (attention(add_zero_attn=True), "MultiheadAttention with add_zero_attn", "float32"),
    "own forward": (
        LoudAttention(64, 4),
        "LoudAttention overrides MultiheadAttention.forward",
        "float32",
    ),
    "old weight norm": (
        nn.utils.weight_norm(nn.Linear(64, 32)),
        "its weight is computed by a hook before each forward",
        "float32",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_stays_says_why(case):
    module, reason, precision = REFUSED[case]
    layers = {layer.name: layer for layer in select(beside_a_good_one(module), RECIPE)}
    assert set(layers) == {"good", "odd"}  # nothing inside of an attention that stays whole
    assert layers["good"].quantized
    assert not layers["odd"].quantized
    assert (layers["odd"].reason, layers["odd"].precision) == (reason, precision)
    assert layers["odd"].kind == type(module).__name__


TAKEN = {
    "subclass": (Renamed(64, 32), (32, 64)),
    "Conv1D": (conv1d(32, 64), (32, 64)),
    "parametrized": (parametrizations.weight_norm(nn.Linear(64, 32)), (32, 64)),
    "half": (nn.Linear(32, 2).half(), (2, 32)),
    "bfloat16": (nn.Linear(48, 32, bias=False).bfloat16(), (32, 48)),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_layer_that_is_taken(case):
    module, shape = TAKEN[case]
    _, layer = select(beside_a_good_one(module), RECIPE)
    assert (layer.precision, layer.reason, layer.shape) == ("nvfp4", "", shape)


def test_weight_only_is_told_apart():
    (layer,) = select(nn.ModuleDict({"a": nn.Linear(64, 32)}), RECIPES["w4a16"])
    assert layer.precision == "nvfp4-weight-only"
    assert layer.quantized


def blocks():
    return nn.ModuleDict(
        {name: nn.ModuleDict({"up": nn.Linear(64, 64), "down": nn.Linear(64, 64)}) for name in ("a", "b")}
    )


@pytest.mark.parametrize(
    ("only", "exclude", "expected"),
    [
        ((), (), {"a.up", "a.down", "b.up", "b.down"}),
        (("*.up",), (), {"a.up", "b.up"}),
        (("a.*", "b.down"), (), {"a.up", "a.down", "b.down"}),
        ((), ("b.*",), {"a.up", "a.down"}),
        (("*.up",), ("a.*",), {"b.up"}),
        (("[a]*",), ("a.dow?",), {"a.up"}),
    ],
)
def test_patterns(only, exclude, expected):
    recipe = RECIPE.model_copy(update={"only": only, "exclude": exclude})
    layers = select(blocks(), recipe)
    assert {layer.name for layer in layers if layer.quantized} == expected
    reasons = {layer.reason for layer in layers if not layer.quantized}
    assert reasons <= {"not selected by --only", "excluded by pattern"}


@pytest.mark.parametrize("option", ["only", "exclude"])
def test_a_pattern_that_matches_nothing_names_the_nearest_layer(option):
    with pytest.raises(PatternMatchesNothingError) as caught:
        select(blocks(), RECIPE.model_copy(update={option: ("b.dwon",)}))
    assert caught.value.message == f"--{option} 'b.dwon' matches none of the 4 layers"
    assert "'b.down'" in caught.value.hint


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Linear(16, 8), nn.Conv1d(4, 4, 1)), "0: K = 16 < 32"),
        (nn.Sequential(nn.ReLU()), "none of the model's 0 layers"),
    ],
)
def test_nothing_to_quantize(module, said):
    with pytest.raises(NothingToQuantizeError, match=said):
        select(module, RECIPE)


def test_all_layers_excluded():
    with pytest.raises(NothingToQuantizeError, match="excluded by pattern"):
        select(blocks(), RECIPE.model_copy(update={"exclude": ("*",)}))


def test_layers_come_in_module_order():
    assert [layer.name for layer in select(blocks(), RECIPE)] == ["a.up", "a.down", "b.up", "b.down"]


def test_a_module_at_two_places_is_one_layer():
    shared = nn.Linear(64, 64)
    layers = select(nn.Sequential(shared, nn.ReLU(), shared), RECIPE)
    assert [layer.name for layer in layers] == ["0"]


def test_selecting_changes_nothing():
    module = blocks()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    select(module, RECIPE)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
