"""From a float model to one that is trained as it will be converted, and to the converted model."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.errors import (
    InputsMissingError,
    NonfiniteCalibrationError,
    NotPreparedError,
    PreparedAlreadyError,
    RecipeInvalidError,
)
from nvfp4_trt.qat.layers import Prepared, prepare_attention, prepare_embedding, prepare_linear
from nvfp4_trt.quantization import ActivationQuantizer, QuantizedModel, attention, quantize_module
from nvfp4_trt.quantization.convert import embedding_row, identity, input_scale, plan, reads_rows
from nvfp4_trt.quantization.select import weight_nk
from nvfp4_trt.recipe import WeightMethod, refuse_transforms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.layers import Layer
    from nvfp4_trt.quantization.convert import Calibrator
    from nvfp4_trt.recipe import Recipe

_STATE = "nvfp4_qat"
"""The attribute of a prepared module that says how it is converted."""


@dataclass(frozen=True)
class QatState:
    """What a prepared module knows of its conversion."""

    recipe: Recipe
    layers: tuple[Layer, ...]
    """Every layer, and what it will be."""
    amaxes: Mapping[str, float]
    """amax(|input|) of each layer that will be NVFP4; empty unless the recipe is static."""


def prepare_module(module: nn.Module, recipe: Recipe, *, calibrate: Calibrator | None = None) -> QatState:
    """Give a module's layers the arithmetic that `quantize_module` would give them, with gradients, in place.

    Parameters stay the same objects, and the state dict keeps its names: an optimizer goes on, and checkpoints of
    the float model load. The rounding of weights and activations passes gradients straight through; they stop at
    elements that a static or single-level scale saturates.

    Args:
        module: any module; not wrapped for distributed training yet.
        recipe: what to select and how to scale.
        calibrate: as for `quantize_module`; it is given a module that shares its tensors with `module`, in
            evaluation mode.

    Raises:
        PreparedAlreadyError: it is prepared, or a part of it is.
        RecipeInvalidError: the recipe makes layers FP8, has transforms, or a weight method other than `max`.
        PatternMatchesNothingError, NothingToQuantizeError: see `quantization.select`.
    """
    refuse_prepared(module, "preparing it again would change nothing")
    refuse_transforms(recipe, "training keeps the model's own parameters")
    # Selected and calibrated on a copy of the structure alone, whose attention is opened: the names in it are
    # those that the layers will have.
    planned = plan(_sharing_copy(module).eval(), recipe, calibrate)
    chosen = {layer.name for layer in planned.layers if layer.quantized}
    _refuse_layers(planned.layers, recipe)
    shared = {identity(weight_nk(planned.root.get_submodule(name))) for name in chosen}
    tied = {
        name: layer
        for name, layer in module.named_modules()
        if reads_rows(layer) and identity(layer.weight) in shared
    }
    rows = [embedding_row(name, layer) for name, layer in tied.items()]
    state = QatState(recipe, (*planned.layers, *rows), dict(planned.amaxes))
    # Under `torch.inference_mode` a scale would be a tensor that no backward pass may keep.
    with torch.inference_mode(mode=False):
        for name, layer in list(module.named_modules()):
            _prepare(name, layer, state, chosen)
        for layer in tied.values():
            prepare_embedding(layer, str(recipe.weights.rule))
    setattr(module, _STATE, state)
    return state


def _refuse_layers(layers: Sequence[Layer], recipe: Recipe) -> None:
    """Refuse layers whose rounding is none that a forward pass can repeat."""
    fp8 = [layer.name for layer in layers if layer.is_fp8]
    if fp8:
        raise RecipeInvalidError(
            f"the recipe {recipe.name} makes {fp8[0]} FP8, and only NVFP4 is trained",
            "leave such layers as they are with `exclude` instead of `fp8`",
        )
    methods = recipe.weights.methods_of([layer.name for layer in layers if layer.quantized])
    other = next((name for name, method in methods.items() if method is not WeightMethod.MAX), None)
    if other is not None:
        raise RecipeInvalidError(
            f"the recipe {recipe.name} packs the weight of {other} with {methods[other]}, and training with max",
            "train with `weights.method: max`: a weight that has learned its rounding is not to be rounded anew",
        )


def _prepare(name: str, layer: nn.Module, state: QatState, chosen: set[str]) -> None:
    rule = str(state.recipe.weights.rule)
    if isinstance(layer, nn.MultiheadAttention) and attention.refusal(layer) is None:
        prefix = f"{name}." if name else ""
        device = layer.out_proj.weight.device
        names = [each for each in attention.IN_PROJECTIONS if prefix + each in chosen]
        prepare_attention(layer, {each: _quantizer(prefix + each, state, device) for each in names}, rule)
    elif isinstance(layer, nn.TransformerEncoder):
        layer.use_nested_tensor = False  # as in a quantized model
    elif name in chosen:
        prepare_linear(layer, _quantizer(name, state, weight_nk(layer).device), rule)


def _quantizer(name: str, state: QatState, device: torch.device) -> ActivationQuantizer:
    scaling = state.recipe.activations.scaling
    scale = input_scale(scaling, state.amaxes.get(name), device)
    return ActivationQuantizer(scaling, scale, persistent=False)


def convert_module(module: nn.Module) -> QuantizedModel:
    """Pack a prepared module's weights: what comes out computes, bit for bit, what training showed.

    Args:
        module: what `prepare_module` was given, trained; it is left as it is, and can be trained further.

    Raises:
        NotPreparedError: it is not.
        NonfiniteWeightError: a weight holds NaN or infinity.
    """
    state = qat_state(module)
    root = _sharing_copy(module)
    for layer in list(root.modules()):
        if isinstance(layer, Prepared):
            layer.restore()
    delattr(root, _STATE)
    with torch.inference_mode(mode=False):  # packing writes in threads, which are not in that mode
        made = quantize_module(
            root.eval(), state.recipe, calibrate=lambda _root, _names: state.amaxes, inplace=True
        )
        # What is not packed is shared with the model in training until here.
        return replace(made, module=copy.deepcopy(made.module))


def qat_state(module: nn.Module) -> QatState:
    """Return how a prepared module is converted.

    Raises:
        NotPreparedError: it is not prepared.
    """
    state = vars(module).get(_STATE)
    if not isinstance(state, QatState):
        raise NotPreparedError(
            f"this {type(module).__name__} is not prepared for quantization-aware training",
            "give the module that `prepare_qat` was given, not one that wraps it (`ddp.module`, "
            "`compiled._orig_mod`) and not a part of it",
        )
    return state


def refuse_prepared(module: nn.Module, why: str) -> None:
    """Check that no part of a module is prepared.

    Args:
        module: any module.
        why: what would go wrong, for the error.

    Raises:
        PreparedAlreadyError: one is; names the first.
    """
    found = next((name for name, layer in module.named_modules() if isinstance(layer, Prepared)), None)
    if found is not None:
        raise PreparedAlreadyError(
            f"the layer {found or type(module).__name__} is prepared for quantization-aware training: {why}",
            "`convert_qat(model)` gives the quantized model, which `export` takes",
        )


def known_amaxes(names: Sequence[str], amaxes: Mapping[str, float]) -> dict[str, float]:
    """Return amax(|input|) of each named layer, from an earlier calibration.

    Raises:
        InputsMissingError: there is none for a layer.
        NonfiniteCalibrationError: one is NaN, infinite or negative.
    """
    for name in names:
        if name not in amaxes:
            raise InputsMissingError(
                f"amaxes has no entry for the layer {name}", "give `inputs`, or the amaxes of the same recipe"
            )
        if not 0 <= amaxes[name] < math.inf:
            raise NonfiniteCalibrationError(
                f"the amax of the layer {name} is {amaxes[name]}", "give `inputs`, or calibrate again"
            )
    return {name: float(amaxes[name]) for name in names}


def _sharing_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module's structure, with the very same parameters and buffers."""
    kept = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, kept)
