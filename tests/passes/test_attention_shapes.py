"""Shapes that TensorRT can prove in front of attention: the meaning stays, and what was refused builds."""

import numpy as np
import pytest
import torch
from both_sides import CASES, apply, around, assert_leaves_alone, assert_same_bits, prefix
from torch import nn
from torch.nn import functional

import nvfp4_trt
from nvfp4_trt.building import build_engine
from nvfp4_trt.passes import AttentionShapes
from nvfp4_trt.portable import load

HEADS, SIZE = 2, 32


class Rotary(nn.Module):
    """Causal attention of two heads on one key, turned by angles that are made of the sequence's extent.

    `counted`: the query's heads are a -1, and the key is repeated to a stated shape; else by its own.
    """

    def __init__(self, *, counted: bool):
        super().__init__()
        width = HEADS * SIZE
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, SIZE, bias=False) for _ in range(2))
        self.counted = counted

    def forward(self, x):
        batch, sequence, _ = x.shape
        angles = torch.arange(sequence).float()[:, None] * torch.linspace(0, 1, SIZE)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        q = self.q(x).view(batch, sequence, *((-1, SIZE) if self.counted else (HEADS, -1))).transpose(1, 2)
        k, v = (project(x).view(batch, sequence, 1, -1).transpose(1, 2) for project in (self.k, self.v))
        q, k = (t * cos + torch.cat(t.chunk(2, -1)[::-1], -1) * sin for t in (q, k))
        k, v = (self.repeated(t, batch, sequence) for t in (k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).reshape(batch, sequence, HEADS * SIZE))

    def repeated(self, t, batch, sequence):
        if self.counted:
            return t.expand(batch, HEADS, sequence, SIZE)
        return t[:, :, None].expand(-1, -1, HEADS, -1, -1).flatten(1, 2)


@pytest.fixture(scope="module", params=[True, False], ids=["counted", "stated"])
def rotary(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("rotary") / "rotary.onnx"
    x = torch.randn(2, 16, HEADS * SIZE).half()
    module = Rotary(counted=request.param).eval().half()
    nvfp4_trt.export(module, path, recipe="w4a4-static", inputs=[{"x": x}], dynamic=("batch,sequence",))
    return path


def attention(model):
    (found,) = (node for node in model.graph if node.op_type == "Attention")
    return found


@pytest.mark.parametrize("case", [c for c in CASES if c[0] in {"heads", "encoder"}], ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(AttentionShapes, portable(*case)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7)], ids=str)
def test_rotary_keys_keep_their_meaning(rotary, shape):
    x = np.random.default_rng(0).normal(0, 1, (*shape, HEADS * SIZE)).astype(np.float16)
    run = apply(AttentionShapes, prefix(AttentionShapes, rotary), {"x": x})
    assert run.changes == 1
    assert_same_bits(run)


def test_key_and_value_read_their_extents_from_one_tensor(rotary):
    model = prefix(AttentionShapes, rotary)
    value = attention(model).inputs[2]
    AttentionShapes().run(model)
    for reshaped in attention(model).inputs[1:3]:
        extents = reshaped.producer().inputs[1].producer().inputs
        stated = [None if e.const_value is None else int(e.const_value.numpy()[0]) for e in extents]
        assert stated == [None, HEADS, None, SIZE]
        assert {e.producer().inputs[0] for e in extents if e.const_value is None} == {value}


def test_fixed_shapes_are_left_alone(portable, tmp_path):
    path = tmp_path / "fixed.onnx"
    exported = portable("heads", "w4a4-static", "float32")
    nvfp4_trt.export(exported.module, path, recipe="w4a4-static", inputs=[exported.batch])
    model, _ = load(path)
    assert attention(model)
    assert_leaves_alone(AttentionShapes, model)


@pytest.mark.long
def test_tensorrt_takes_it(rotary, tmp_path):
    """Without the pass, its parser refuses both: key and value, and the heads of the query, are the reasons."""
    engine = build_engine(rotary, tmp_path / "e.engine", backend="tensorrt_rtx")
    assert engine.audit.counts() == (4, 4)
    rows = engine.record.rows
    assert sum("mha" in row.name for row in rows) == 1
    alone = [row.name for row in rows if row.is_launch and row.onnx and all("/Attention/" in n for n in row.onnx)]
    assert not alone  # the Reshapes are no kernels
