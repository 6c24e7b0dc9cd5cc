"""Repeated blocks: found by the names of layers, cut out of a graph, and the same numbers as before."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import nn

import nvfp4_trt
from nvfp4_trt.passes import KEPT_BLOCKS, find_blocks, keep_first_blocks
from nvfp4_trt.portable import find_sites, load, save

PARTS = ("attention.query", "attention.out", "mlp.up", "mlp.down")


def names(count, path="encoder.layer.", parts=PARTS):
    return [f"{path}{index}.{part}" for index in range(count) for part in parts]


def test_they_are_found_beside_other_layers():
    found = find_blocks([*names(12), "pooler.dense", "head.0.up"])
    assert found == ("encoder.layer.", 12)
    assert [found.block_of(name) for name in ("encoder.layer.11.mlp.up", "pooler.dense")] == [11, None]
    assert found.block_of("encoder.layer.x.mlp") is None


def test_the_middle_one_is_known_by_its_nodes():
    found = find_blocks(names(6, "h."))
    assert found.is_middle(["h.1.mlp.up/MatMul", "add_3"])
    assert found.is_middle(["h.0.norm/Add", "h.1.norm/Add"])  # what lies between two counts with the later one
    assert not found.is_middle(["h.1.norm/Add", "h.2.norm/Add"])
    assert not found.is_middle(["h.0.norm/Add", "add_3"])
    assert not found.is_middle([])


@given(st.integers(0, 12), st.integers(1, 4), st.randoms())
def test_their_number_counts_and_not_the_order_of_names(count, parts, random):
    given_names = names(count, "blocks.", PARTS[:parts])
    random.shuffle(given_names)
    found = find_blocks(given_names)
    assert found == (None if count <= KEPT_BLOCKS + 1 else ("blocks.", count))


REFUSED = {
    "none": [],
    "few": names(4),
    "not numbered from 0": [name.replace(".0.", ".12.") for name in names(6)],
    "a part that the first have not": [*names(6), "encoder.layer.5.adapter.up"],
    "most linears elsewhere": [*names(6, parts=["up"]), *(f"head_{i}" for i in range(3))],
    "two stacks of the same size": [*names(6), *names(6, "decoder.layer.")],
}


@pytest.mark.parametrize("layers", REFUSED.values(), ids=REFUSED)
def test_what_says_too_little(layers):
    assert find_blocks(layers) is None


def test_parts_that_only_some_have():
    """Every second block has experts, say: the first two show both kinds."""
    mixed = [f"h.{i}.{part}" for i in range(6) for part in (("a", "b") if i % 2 else ("a", "c"))]
    assert find_blocks(mixed) == ("h.", 6)


class Block(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(64), nn.Linear(64, 128), nn.Linear(128, 64)
        self.first = first

    def forward(self, x, gate):
        y = self.down(nn.functional.gelu(self.up(x if self.first else self.norm(x)))) * gate
        return self.norm(x + y) if self.first else x + y


class Stack(nn.Module):
    """Six blocks between two more linears, all of which take a gate that is made before them."""

    def __init__(self, first):
        super().__init__()
        self.embed, self.head = nn.Linear(32, 64), nn.Linear(64, 16)
        self.layers = nn.ModuleList(Block(first) for _ in range(6))

    def forward(self, x):
        gate = torch.sigmoid(x.mean(-1, keepdim=True))
        hidden = self.embed(x)
        for layer in self.layers:
            hidden = layer(hidden, gate)
        return self.head(hidden), gate


@pytest.fixture(scope="module", params=[True, False], ids=["norm last", "norm first"])
def stack(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("stack") / "stack.onnx"
    x = torch.randn(2, 3, 32)
    nvfp4_trt.export(Stack(request.param).eval(), path, inputs=[{"x": x}], dynamic=("batch,sequence",))
    return path, x.numpy()


def test_the_cut_leaves_the_residual_stream(stack, tmp_path):
    path, x = stack
    model, metadata = load(path)
    blocks = find_blocks([layer.name for layer in metadata.layers if layer.quantized])
    assert keep_first_blocks(model, blocks)
    (output,) = model.graph.outputs
    assert output.shape[-1] == 64
    kept = {site.layer for site in find_sites(model.graph)}
    assert kept == {"embed", *(f"layers.{i}.{part}" for i in range(KEPT_BLOCKS) for part in ("up", "down"))}
    save(model, tmp_path / "cut.onnx")
    assert (tmp_path / "cut.onnx").stat().st_size < 0.7 * path.stat().st_size  # the other weights are gone
    (found,) = ReferenceEvaluator(str(tmp_path / "cut.onnx")).run(None, {"x": x})
    np.testing.assert_array_equal(found, value_in(path, output.name, x))


def value_in(path, name, x):
    """Return a value inside the whole model."""
    whole = onnx.load(path)
    del whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return ReferenceEvaluator(whole).run(None, {"x": x})[0]


def test_blocks_that_are_not_one_behind_the_other_stay(stack):
    path, _ = stack
    model, _ = load(path)
    size = len(model.graph)
    backwards = find_blocks([f"layers.{5 - i}.{part}" for i in range(6) for part in ("up", "down")])
    for site in find_sites(model.graph):
        if site.layer.startswith("layers."):
            first, number, last = site.layer.split(".")
            site.weight.metadata_props["nvfp4.layer"] = f"{first}.{5 - int(number)}.{last}"
    assert not keep_first_blocks(model, backwards)
    assert len(model.graph) == size
