import onnx
import onnx_ir as ir
import pytest
import torch
from both_sides import apply, assert_leaves_alone, assert_same_bits, evaluate
from torch import nn

import nvfp4_trt
from nvfp4_trt.passes import PIPELINE, FlattenRows, PadRows, fix_dims, lower, missing_rows, quantized_rows
from nvfp4_trt.portable import is_ours, load
from nvfp4_trt.recipe import load_recipe


class Block(nn.Module):
    """A residual stream with a norm, an attention and an MLP, as in a ViT."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        with torch.no_grad():
            self.first.bias.fill_(0.5)

    def forward(self, x):
        q, k, v = self.qkv(self.first(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(1, 2)).softmax(-1) @ v)
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


@pytest.fixture(scope="module")
def block(tmp_path_factory):
    """Return the function that exports the block with a recipe, and gives the file and an input."""
    folder = tmp_path_factory.mktemp("block")

    def exported(recipe, dtype=torch.float32):
        torch.manual_seed(0)
        x = torch.randn(2, 3, 32, dtype=dtype)
        path = folder / f"{recipe}-{dtype}.onnx"
        if not path.exists():
            module = Block().to(dtype)
            nvfp4_trt.export(module, path, recipe=recipe, inputs=[{"x": x}], dynamic=["batch"])
        return path, {"x": x.numpy()}

    return exported


def flattened(path, extents):
    model, _ = load(path)
    fix_dims(model, extents)
    for kind in PIPELINE[: PIPELINE.index(FlattenRows) + 1]:
        kind().run(model)
    return model


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        ("w4a4-dynamic-token", torch.float16),
        ("w4a4-dynamic-token", torch.float32),
        ("w4a4-dynamic", torch.float32),
        ("w4a4-static", torch.float16),
        ("w4a4-single-level", torch.float32),
    ],
)
def test_the_real_rows_have_the_same_bits(block, recipe, dtype):
    path, feeds = block(recipe, dtype)
    run = apply(PadRows, flattened(path, {"batch": 2}), feeds)
    assert run.changes == 4
    assert_same_bits(run)
    for node in run.model.graph:
        if is_ours(node, {"Quantize"}):
            assert node.inputs[0].shape[0] == 128
    onnx.checker.check_model(ir.to_proto(run.model), full_check=True)


def test_the_residual_stream_is_padded_once(block):
    path, feeds = block("w4a4-dynamic-token")
    run = apply(PadRows, flattened(path, {"batch": 2}), feeds)
    pads = [node for node in run.model.graph if node.op_type == "Pad"]
    assert len(pads) == 2  # the input, and what the attention gives
    kinds = [node.op_type for node in run.model.graph]
    assert kinds.count("LayerNormalization") == 2  # none is made twice
    assert kinds.count("Gelu") == 1
    assert kinds.count("Slice") == 3  # for the attention, and for both operands of the sum behind the last linear


class Gated(nn.Module):
    """What the product reads first is asked for behind what reads it first."""

    def __init__(self):
        super().__init__()
        self.both, self.down = nn.Linear(32, 128), nn.Linear(64, 32)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1)
        return self.down(gate * torch.sigmoid(gate) * up)


def test_rows_are_padded_where_they_are_made(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32)
    nvfp4_trt.export(Gated(), tmp_path / "m.onnx", recipe="w4a4-static", inputs=[{"x": x}], dynamic=["batch"])
    run = apply(PadRows, flattened(tmp_path / "m.onnx", {"batch": 2}), {"x": x.numpy()})
    assert run.changes == 2
    assert_same_bits(run)
    onnx.checker.check_model(ir.to_proto(run.model), full_check=True)


def test_a_scale_over_the_tensor_sees_rows_of_zeros(block):
    path, feeds = block("w4a4-dynamic")
    model = flattened(path, {"batch": 2})
    apply(PadRows, model, feeds)
    scales = [node for node in model.graph if is_ours(node, {"PerTensorScale"})]
    assert {node.inputs[0].producer().op_type for node in scales} == {"Pad"}


@pytest.mark.parametrize("extents", [{}, {"batch": 128}])
def test_rows_that_are_open_or_whole_tiles_are_left(block, extents):
    path, _ = block("w4a4-dynamic-token")
    assert_leaves_alone(PadRows, flattened(path, extents))


def test_the_whole_lowering_means_the_same(block):
    path, feeds = block("w4a4-dynamic-token")
    models = []
    for pad in (False, True):
        model, _ = load(path)
        lowering = lower(model, extents={"batch": 2}, pad_rows=pad)
        assert lowering.changes.get("pad-rows", 0) == (4 if pad else 0)
        models.append((evaluate(model, feeds), lowering.gemms, lowering.scales))
    (plain, *names), (padded, *same) = models
    assert names == same
    assert {name: array.tobytes() for name, array in plain.items()} == {n: a.tobytes() for n, a in padded.items()}


@pytest.mark.parametrize("scaling", ["w4a4-dynamic", "w4a4-dynamic-token"])
def test_fp8_among_the_layers_is_carried_along(tmp_path, scaling):
    torch.manual_seed(0)
    x, path = torch.randn(2, 3, 32), tmp_path / "mixed.onnx"
    recipe = load_recipe(scaling).model_copy(update={"fp8": ("up",)})
    nvfp4_trt.export(Block(), path, recipe=recipe, inputs=[{"x": x}], dynamic=["batch"])
    run = apply(PadRows, flattened(path, {"batch": 2}), {"x": x.numpy()})
    assert run.changes == 4
    assert_same_bits(run)


def test_known_rows_are_seen_in_the_portable_graph(block):
    path, _ = block("w4a4-dynamic-token")
    model, _ = load(path)
    assert quantized_rows(model.graph) == set()
    fix_dims(model, {"batch": 2})
    assert quantized_rows(model.graph) == {6}
    assert [missing_rows(n) for n in (1, 127, 128, 129, 197)] == [127, 1, 0, 127, 59]
