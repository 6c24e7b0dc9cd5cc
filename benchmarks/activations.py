"""Ways to quantize the activations of the sentence encoder, weights left as they are: SQNR of its output.

    python benchmarks/activations.py

Per token. `four-over-six` and the rotations are computed here, in torch: no engine runs them.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import TYPE_CHECKING

import tasks
import torch
from accuracy import distance
from rich.console import Console
from rich.table import Table
from tasks.task import run
from torch import Tensor, nn

from nvfp4_trt import format as fmt

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6.0])


def per_token(x: Tensor) -> Tensor:
    """Return Q(x) with the scale of each row."""
    scale = fmt.per_token_scale(x)
    return fmt.dequantize(*fmt.quantize(x.contiguous(), scale), scale, torch.float32)


def four_over_six(x: Tensor) -> Tensor:
    """Return Q(x) whose blocks' largest magnitudes map to 6 or to 4, whichever errs less."""
    blocks = x.unflatten(-1, (-1, fmt.BLOCK))
    scale = fmt.per_token_scale(x)[..., None] * 1.5  # room for block scales that are larger by 6 / 4
    amax = blocks.abs().amax(dim=-1, keepdim=True)
    tried = [_with_scale(blocks, (amax / top / scale).to(torch.float8_e4m3fn).float() * scale) for top in (6, 4)]
    errors = [(values - blocks).square().sum(dim=-1, keepdim=True) for values in tried]
    return torch.where(errors[1] < errors[0], tried[1], tried[0]).flatten(-2)


def _with_scale(blocks: Tensor, scale: Tensor) -> Tensor:
    scaled = torch.where(scale > 0, blocks / scale.clamp(min=1e-30), 0.0)
    nearest = GRID[torch.bucketize(scaled.abs(), (GRID[1:] + GRID[:-1]) / 2)]
    return nearest * scaled.sign() * scale


def rotated(x: Tensor, size: int) -> Tensor:
    """Return Q(x · H) · Hᵀ with a Hadamard matrix H over groups of channels."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    matrix = matrix / math.sqrt(size)
    turned = (x.unflatten(-1, (-1, size)) @ matrix).flatten(-2)
    return (per_token(turned).unflatten(-1, (-1, size)) @ matrix.t()).flatten(-2)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": per_token,
    "four-over-six": four_over_six,
    "Hadamard rotation of 16": functools.partial(rotated, size=16),
    "Hadamard rotation of 128": functools.partial(rotated, size=128),
}


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    task = tasks.make("minilm")
    reference = run(task, task.module, task.held_out)
    table = Table("activations", "output SQNR in dB")
    for name, way in WAYS.items():
        model = copy.deepcopy(task.module)
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_pre_hook(lambda _, args, way=way: (way(args[0]),))
        table.add_row(name, f"{distance(reference, run(task, model, task.held_out))[0]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
