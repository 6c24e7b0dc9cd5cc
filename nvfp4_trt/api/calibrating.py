"""Finding the static scales of a model."""

from __future__ import annotations

import copy as copying
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.api.sources import cast, modes_kept, moved, own_device, streamed_inputs
from nvfp4_trt.atomic import check_writable
from nvfp4_trt.calibration import Calibration, calibrate_model, join
from nvfp4_trt.loading import load_model
from nvfp4_trt.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source


def calibrate(
    model: Source,
    recipe: str | Path | Recipe = "w4a4-static",
    *,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    sharded: bool = False,
    output: str | Path | None = None,
    state: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    inplace: bool = False,
) -> Calibration:
    """Find the static activation scales of a model; in every process that torchrun started, the same.

    Args:
        model: a path to any of the five kinds that `nvfp4_trt.loading` reads, or a module (left unchanged).
        recipe: with static scaling: a built-in name, a YAML file, or a `Recipe`.
        inputs: batches (any iterable, taken one at a time), a file of them, or `package.module:function`.
        input_specs: random inputs instead, `NAME:DTYPE:SHAPE[:LOW..HIGH]` each.
        seed: of random inputs.
        only: patterns of the layers to calibrate, instead of the recipe's.
        exclude: patterns of layers to leave out, beside the recipe's.
        fp8: patterns of layers that will be FP8, beside the recipe's; their observer is `max`.
        factory: `package.module:function` that makes the module of a state dict or safetensors file.
        trust_pickle: let the file run code where loading it means that.
        dtype: cast the model and its floating inputs first: `float32`, `float16` or `bfloat16`.
        device: run there, for example `cuda`: the GPU of the process's own rank; by default where the model is.
        sharded: `inputs` are this process's own share; otherwise batch i is for rank i mod N.
        output: a `.json` or `.safetensors` file for the result; the first process writes it.
        state: a file that keeps the statistics meanwhile; where it exists, the calibration goes on from it.
        progress: called with the number of batches that this process has run.
        inplace: cast, move and open `model` itself, which saves the memory of a copy.

    Raises:
        Nvfp4Error: any of `nvfp4_trt.errors`, each with its code and a hint.
    """
    place = None if device is None else own_device(torch.device(device))
    written = None if output is None else Path(output)
    with join(place) as ranks, modes_kept(model):
        if written is not None and ranks.rank == 0:
            check_writable(written)
        chosen = load_recipe(recipe).with_patterns(only, exclude, fp8)
        loaded = load_model(model, factory=factory, trust_pickle=trust_pickle)
        copied = isinstance(model, nn.Module) and not inplace
        module, _ = cast(loaded.module, (), dtype, copy=copied)
        if place is not None:
            module = (copying.deepcopy(module) if copied and module is loaded.module else module).to(place)
        made = calibrate_model(
            loaded,
            module,
            chosen,
            (moved(batch, dtype, place) for batch in streamed_inputs(loaded, inputs, input_specs, seed)),
            ranks=ranks,
            sharded=sharded,
            state=None if state is None else Path(state),
            progress=progress,
            inplace=not copied or module is not loaded.module,
        )
        if written is not None and ranks.rank == 0:
            made.save(written)
    return made
