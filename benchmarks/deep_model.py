"""The model of `report_large.py`: residual blocks of two linear layers, 500 layers in all.

`python deep_model.py FOLDER` writes its weights, its portable file and, where TensorRT-RTX is there, an engine.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

BLOCKS, WIDTH = 250, 256


class Block(nn.Module):
    """`x + down(relu(up(norm(x))))`."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[rows, WIDTH]` for `x` of that shape; a small step, so that many in a row stay finite."""
        return x + self.down(torch.relu(self.up(self.norm(x)))) / BLOCKS


class Model(nn.Module):
    """The blocks, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[rows, WIDTH]` for `x` of that shape."""
        return self.blocks(x)


def factory() -> nn.Module:
    """Return the model, always the same."""
    torch.manual_seed(0)
    return Model().eval()


def write(folder: Path) -> None:
    """Write the files."""
    import nvfp4_trt

    model = factory()
    torch.save(model.state_dict(), folder / "model.pt")
    nvfp4_trt.export(model, folder / "model.onnx", inputs=[{"x": torch.randn(16, WIDTH)}], dynamic=("rows",))
    if find_spec("tensorrt_rtx") is not None:
        nvfp4_trt.build(folder / "model.onnx", folder / "model.engine", backend="tensorrt_rtx", optimize="off")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
