"""What a model's task is: the model, batches to calibrate with and others to measure on, and a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

Batch = dict[str, Tensor]
"""Inputs by the names of the forward's parameters."""


@dataclass(frozen=True)
class Task:
    """A model with weights of its own, and what is measured of it."""

    name: str
    about: str
    """The model and its data, in a few words."""
    module: nn.Module
    calibration: tuple[Batch, ...]
    held_out: tuple[Batch, ...]
    """Of other texts, images or tables than `calibration`."""
    read: Callable[[object, Batch], Tensor]
    """Takes the output tensor `[rows, ...]` that SQNR is measured on out of what the module returned."""
    metric: str
    score: Callable[[list[Tensor]], float]
    """Takes what `read` returned for each held-out batch; 1.0 is best."""


@torch.no_grad()
def run(task: Task, module: nn.Module, batches: tuple[Batch, ...]) -> list[Tensor]:
    """Return what `task.read` takes out of the module's output for each batch."""
    return [task.read(module(**batch), batch) for batch in batches]


def mean_reciprocal_rank(queries: Tensor, documents: Tensor) -> float:
    """Return the mean of 1 / rank of each query's own document among all, by their scalar product.

    Args:
        queries: `[rows, K]`.
        documents: `[rows, K]`; row i answers query i.
    """
    scores = queries @ documents.T
    own = scores.diagonal()[:, None]
    return float((1 / (scores >= own).sum(dim=1)).mean())
