"""Small constants computed ahead: the same bits, and what TensorRT's compiler fails on builds."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from both_sides import CASES, apply, around, assert_leaves_alone, assert_same_bits, prefix
from graphs import draw, linear
from torch import nn

import nvfp4_trt
from nvfp4_trt.building import build_engine
from nvfp4_trt.passes import FoldConstants
from nvfp4_trt.passes.fold_constants import LARGEST

POSITIONS = 128


class Biased(nn.Module):
    """Scores of positions with T5's bias: a table looked up by the logarithm of their distance."""

    def __init__(self):
        super().__init__()
        self.table, self.linear = nn.Embedding(32, 1), nn.Linear(64, POSITIONS)

    def forward(self, x):
        places = torch.arange(x.shape[1])
        offsets = places[None, :] - places[:, None]
        away = offsets.abs()
        far = (8 + torch.log(away.clamp(min=1).float() / 8) / 2.77 * 8).long().clamp(max=15)
        rows = torch.where(away < 8, away, far) + torch.where(offsets > 0, 16, 0)
        return self.linear(x) + self.table(rows)[..., 0]


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("biased") / "biased.onnx"
    x = torch.randn(1, POSITIONS, 64).half()
    nvfp4_trt.export(Biased().eval().half(), path, recipe="w4a4-static", inputs=[{"x": x}])
    return path


@pytest.mark.parametrize("case", [c for c in CASES if c[0] in {"gpt2", "encoder"}], ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(FoldConstants, portable(*case)))


def test_buckets_of_positions_become_a_table(biased):
    model = prefix(FoldConstants, biased)
    x = np.random.default_rng(0).normal(0, 1, (1, POSITIONS, 64)).astype(np.float16)
    run = apply(FoldConstants, model, {"x": x})
    assert run.changes >= 10
    assert_same_bits(run)
    left = {node.op_type for node in model.graph if not node.domain}
    assert not left & {"Abs", "Clip", "Log", "Where", "Less", "Greater"}
    lookup = next(node for node in model.graph if node.op_type == "Gather")
    assert lookup.inputs[1].const_value.shape.numpy() == (POSITIONS, POSITIONS)
    assert lookup.inputs[0].dtype == ir.DataType.FLOAT16  # the table of floats stays a table


def test_again_there_is_nothing_to_fold(biased):
    model = prefix(FoldConstants, biased)
    FoldConstants().run(model)
    assert_leaves_alone(FoldConstants, model)


def test_weights_and_large_values_are_left_alone():
    body = """w = Mul(weights, c(2.0))
      wide = Expand(one, shape)
      used = ReduceMax<keepdims = 0>(wide)
      ones = Cast<to = 1>(used)
      y0 = Mul(x, w)
      y = Mul(y0, ones)"""
    held = {
        "weights": np.arange(32, dtype=np.float32),
        "one": np.ones(1, np.int64),
        "shape": np.array([LARGEST + 1]),
    }
    model = linear(body, constants=held)
    assert_leaves_alone(FoldConstants, model)


def test_what_is_used_twice_and_what_is_half_constant():
    body = """twice = Add(places, places)
      number = Cast<to = 1>(twice)
      left = Mul(x, number)
      right = Add(left, number)
      y = Mul(right, c(0.5))"""
    run = apply(FoldConstants, linear(body, constants={"places": np.arange(32)}), {"x": draw()})
    assert run.changes == 2
    assert_same_bits(run)
    assert [n.op_type for n in run.model.graph if not n.domain][:3] == ["Mul", "Add", "Mul"]


@pytest.mark.long
def test_tensorrt_takes_it(biased, tmp_path):
    """Without the pass: "Cannot convert scalar operand of type 11 to float"."""
    engine = build_engine(biased, tmp_path / "e.engine", backend="tensorrt_rtx")
    assert engine.audit.counts() == (1, 1)
