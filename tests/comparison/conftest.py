"""One small model, exported once for all comparison tests."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from nvfp4_trt.exporting import export_module
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.recipe import RECIPES


class TwoOutputs(nn.Module):
    """An MLP with two outputs, and an input that nothing uses."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 32)

    def forward(self, x, unused):  # noqa: ARG002
        hidden = nn.functional.gelu(self.up(x))
        return {"hidden": hidden, "y": self.down(hidden)}


class Exported(NamedTuple):
    module: nn.Module
    quantized: nn.Module
    path: Path


def batch(rows, *, dtype=torch.float32, seed=0):
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return {"x": x, "unused": torch.zeros(rows, 2, dtype=torch.int64)}


def export(folder, dtype=torch.float32):
    torch.manual_seed(0)
    module = TwoOutputs().to(dtype).eval()
    quantized = quantize_module(module, RECIPES["w4a4-dynamic-token"])
    path = folder / "model.onnx"
    export_module(quantized, batch(4, dtype=dtype), path, dynamic=["batch"], source_sha256="0" * 64)
    return Exported(module, quantized.module, path)


@pytest.fixture(scope="package")
def exported(tmp_path_factory):
    return export(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def batches():
    return [batch(4), batch(3, seed=1)]


@pytest.fixture(scope="package")
def exporter():
    """Return the function that exports the model in another dtype."""
    return export


@pytest.fixture(scope="package")
def make_batch():
    """Return the function that draws a batch."""
    return batch
