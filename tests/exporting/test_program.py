"""The light decomposition: the same graph values as the ordinary one, and its refusals."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from nvfp4_trt.exporting import program as programs
from nvfp4_trt.exporting import trace as tracing
from nvfp4_trt.exporting.export import export_module
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.recipe import RECIPES
from tests.models import make


def _run(path, batch):
    session = ort.InferenceSession(str(path))
    return session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})


def _export(model, batch, dynamic, path):
    quantized = quantize_module(model, RECIPES["w4a4-dynamic-token"])
    export_module(quantized, batch, path, dynamic=dynamic, source_sha256="0" * 64)
    return quantized


@pytest.mark.parametrize("name", ["mlp", "gpt2", "encoder"])
def test_both_ways_give_the_same_numbers(name, tmp_path, monkeypatch):
    model, batch, dynamic = make(name)
    _export(model, batch, dynamic, tmp_path / "light.onnx")
    monkeypatch.setattr(tracing, "undecomposed", lambda _program: None)
    _export(model, batch, dynamic, tmp_path / "whole.onnx")
    for light, whole in zip(
        _run(tmp_path / "light.onnx", batch), _run(tmp_path / "whole.onnx", batch), strict=True
    ):
        np.testing.assert_array_equal(light, whole)


class Odds(nn.Module):
    """Casts, dropout, `&`, `|`, contiguous and detach: the operators that are replaced one by one."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 32)
        self.drop = nn.Dropout(0.5)

    def forward(self, x, keep, also):
        mask = (keep.to(torch.bool) & also) | (also & also)
        y = self.drop(self.fc(x.contiguous().detach()))
        return torch.where(mask, y.to(torch.float64).float(), y.reshape(-1, 32) * 0)


def test_replaced_operators(tmp_path):
    torch.manual_seed(0)
    batch = {
        "x": torch.randn(6, 64),
        "keep": torch.randint(0, 2, (6, 1)),
        "also": torch.rand(6, 1) > 0.5,
    }
    model = Odds().eval()
    program = torch.export.export(model, (), batch, strict=False)
    light = programs.undecomposed(program)
    left = {str(node.target) for node in light.graph.nodes if node.op == "call_function"}
    assert not left & {"aten.to.dtype", "aten.dropout.default", "aten.__and__.Tensor", "aten.__or__.Tensor"}
    quantized = _export(model, batch, ("batch",), tmp_path / "odds.onnx")
    with torch.no_grad():
        expected = quantized.module(**batch)
    np.testing.assert_allclose(_run(tmp_path / "odds.onnx", batch)[0], expected.numpy(), atol=1e-6)


class Writes(nn.Module):
    """Writes to its own copy of the input."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 32)

    def forward(self, x):
        y = x.clone()
        y[:, 0] = 1.0
        y.add_(1.0)
        return self.fc(y)


def test_writing_operators_take_the_ordinary_way(tmp_path):
    torch.manual_seed(0)
    batch = {"x": torch.randn(6, 64)}
    model = Writes().eval()
    assert programs.undecomposed(torch.export.export(model, (), batch, strict=False)) is None
    quantized = _export(model, batch, ("batch",), tmp_path / "writes.onnx")
    with torch.no_grad():
        expected = quantized.module(**batch)
    np.testing.assert_allclose(_run(tmp_path / "writes.onnx", batch)[0], expected.numpy(), atol=1e-6)


class NeedsDecomposing(nn.Module):
    """Uses an operator that the exporter translates only after decomposing it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 32)

    def forward(self, x):
        return nn.functional.huber_loss(self.fc(x), torch.zeros_like(self.fc(x)), reduction="none")


def test_falls_back_where_an_operator_has_no_translation(tmp_path, monkeypatch):
    kinds = []
    to_onnx = tracing._to_onnx
    monkeypatch.setattr(tracing, "_to_onnx", lambda p, *rest: kinds.append(type(p).__name__) or to_onnx(p, *rest))
    torch.manual_seed(0)
    batch = {"x": torch.randn(6, 64)}
    model = NeedsDecomposing().eval()
    quantized = _export(model, batch, ("batch",), tmp_path / "fallback.onnx")
    with torch.no_grad():
        expected = quantized.module(**batch)
    np.testing.assert_allclose(_run(tmp_path / "fallback.onnx", batch)[0], expected.numpy(), atol=1e-5)
    assert kinds == ["Undecomposed", "ExportedProgram"]
