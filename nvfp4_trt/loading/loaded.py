"""What loading returns: the module, where it came from, and what was learnt on the way."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

Batch = dict[str, torch.Tensor]
"""One call's inputs: keyed by the names of the forward's parameters, in the forward's order."""


class SourceKind(StrEnum):
    """The kinds of things that a model arrives in."""

    MODULE = "module"
    """An `nn.Module` already in memory."""
    STATE_DICT = "state-dict"
    """A `torch.save`d dictionary of tensors, put into a factory's module."""
    SAFETENSORS = "safetensors"
    """A safetensors file, put into a factory's module."""
    PROGRAM = "program"
    """A `torch.export` program (`.pt2`)."""
    PICKLED_MODULE = "pickled-module"
    """A `torch.save`d `nn.Module`: code as well as data."""
    FOLDER = "hugging-face-folder"
    """A folder with `config.json` and safetensors files, as `save_pretrained` writes it."""
    CHECKPOINT = "nvfp4-checkpoint"
    """Weights that are NVFP4 already, in a folder or a file."""


@dataclass(frozen=True)
class LoadedModel:
    """A module ready to be quantized.

    Attributes:
        module: in eval mode, every parameter on a real device.
        kind: what it was loaded from.
        source: the path as given, or the class of a module in memory.
        hashed: waits for the hash, which is computed meanwhile, and returns it.
        example: the inputs that a `.pt2` program carries.
        notes: what was assumed or changed, a sentence each.
    """

    module: nn.Module
    kind: SourceKind
    source: str
    hashed: Callable[[], str]
    example: Batch | None
    notes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights file; of a folder, over its config and weights files by name.

        Of a module in memory, it is over its state dict's names, dtypes, shapes and bytes.
        """
        return self.hashed()


@dataclass(frozen=True)
class ForwardNames:
    """The names that a module's forward takes.

    Attributes:
        all: every named parameter, in order.
        required: those without a default.
        open: whether `**kwargs` takes any further name.
    """

    all: tuple[str, ...]
    required: tuple[str, ...]
    open: bool


def forward_names(module: nn.Module) -> ForwardNames:
    """Return the names that `module.forward` takes (`*args` cannot be named, and is left out)."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p for p in parameters if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    return ForwardNames(
        all=tuple(p.name for p in named),
        required=tuple(p.name for p in named if p.default is p.empty),
        open=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def shapes_of(batch: Batch) -> str:
    """Return a batch's names, shapes and dtypes as text, as in `x [2, 8] float32`."""
    return ", ".join(f"{k} {list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for k, t in batch.items())
