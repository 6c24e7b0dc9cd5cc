"""What the public functions are given: models, inputs, dtypes and devices."""

from __future__ import annotations

import copy as copying
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.exporting import OnnxArtifact
from nvfp4_trt.loading import Inputs, LoadedModel, Spill, load_inputs, stream_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nvfp4_trt.loading import Batch

    Source = str | Path | nn.Module
    GivenInputs = str | Path | Iterable[Batch] | Inputs | None


@contextmanager
def modes_kept(source: Source) -> Iterator[None]:
    """Give a module in memory its training modes back: loading puts it into evaluation mode."""
    modes = [(m, m.training) for m in source.modules()] if isinstance(source, nn.Module) else []
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def model_path(model: str | Path | OnnxArtifact) -> Path:
    """Return where a portable file is."""
    return model.path if isinstance(model, OnnxArtifact) else Path(model)


def own_device(device: torch.device) -> torch.device:
    """Return the device itself, or of several GPUs the one that belongs to this process."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def example_inputs(loaded: LoadedModel, inputs: GivenInputs, specs: Sequence[str], seed: int) -> Inputs:
    """Return the batches that were given, or that a file, a function or `specs` give, all of them made."""
    if isinstance(inputs, Inputs):
        return inputs
    if inputs is None or isinstance(inputs, (str, Path)):
        source = None if inputs is None else str(inputs)
        return load_inputs(loaded.module, specs=specs, source=source, seed=seed, example=loaded.example)
    batches = tuple(inputs)
    if not batches:
        return load_inputs(loaded.module)  # the error that says what is missing
    return Inputs(batches, "given in memory", random=False)


def streamed_inputs(loaded: LoadedModel, inputs: GivenInputs, specs: Sequence[str], seed: int) -> Iterable[Batch]:
    """Return batches that are not all made at once."""
    if isinstance(inputs, Inputs):
        return inputs.batches
    if inputs is None or isinstance(inputs, (str, Path)):
        source = None if inputs is None else str(inputs)
        return stream_inputs(loaded.module, specs=specs, source=source, seed=seed, example=loaded.example)
    return inputs


def cast(
    module: nn.Module,
    batches: Sequence[Batch],
    dtype: str | torch.dtype | None,
    *,
    copy: bool,
    spill: Spill | None = None,
) -> tuple[nn.Module, tuple[Batch, ...]]:
    """Return a module and its batches in a dtype: a copy of the module, or the module itself."""
    if dtype is None:
        return module, tuple(batches)
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    changed = copying.deepcopy(module) if copy else module
    if spill is not None:
        spill.cast_module(changed, wanted)
    return changed.to(wanted), tuple(moved(batch, wanted, None) for batch in batches)


def moved(batch: Batch, dtype: str | torch.dtype | None, device: torch.device | None) -> Batch:
    """Return a batch on the device, its floating tensors in the dtype."""
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return {
        name: tensor.to(device=device, dtype=wanted if tensor.is_floating_point() else None)
        for name, tensor in batch.items()
    }
