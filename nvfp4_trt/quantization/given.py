"""Putting weights that are packed already into a module: nothing is quantized, every code stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY, Layer
from nvfp4_trt.quantization.convert import QuantizedModel, carry_over, put
from nvfp4_trt.quantization.modules import ActivationQuantizer, PackedWeight, QuantEmbedding, QuantLinear
from nvfp4_trt.quantization.select import is_conv1d, is_linear, select
from nvfp4_trt.recipe import ActivationScaling, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping


class GivenWeight(NamedTuple):
    """A layer's packed weight, and how its input is quantized."""

    weight: PackedWeight
    scaling: ActivationScaling
    scale: Tensor | None
    """Of, and only of, static scaling: fp32 `[]`."""
    transposed: bool = False
    """Whether its layer is a Hugging Face `Conv1D`."""


def place_given(root: nn.Module, given: Mapping[str, GivenWeight], recipe: Recipe) -> QuantizedModel:
    """Replace layers of a module by their NVFP4 forms, in place, with the weights that are given.

    Args:
        root: a module whose weights of the given layers are placeholders; linear layers and embeddings that share
            one of them are replaced too.
        given: by the names of `nn.Linear`, `Conv1D` or `nn.Embedding` layers.
        recipe: what the layers have in common, for the record.

    Raises:
        WrongKindError: a layer is of another class, or two weights that are one in the module differ.
    """
    layers = {layer.name: layer for layer in select(root, recipe.model_copy(update={"only": (), "exclude": ()}))}
    shared: dict[int, GivenWeight] = {}
    for name, each in given.items():
        first = shared.setdefault(id(root.get_submodule(name).weight), each)
        if first is not each and not _equal(first.weight, each.weight):
            raise WrongKindError(
                f"the packed weight of {name} is tied with another in the model, and differs from it",
                "build the module without tying them",
            )
    placed = set(given)
    embeddings = []
    for name, child in list(root.named_modules()):
        held = given.get(name)
        if held is None and is_linear(child):
            held = shared.get(id(child.weight))
        if held is not None and (is_conv1d(child) if held.transposed else type(child) is nn.Linear):
            quantizer = ActivationQuantizer(held.scaling, held.scale)
            weight = shared[id(child.weight)].weight
            made: nn.Module = QuantLinear(weight, child.bias, quantizer, child.weight.dtype)
            only_weight = held.scaling is ActivationScaling.NONE
            layers[name] = replace(layers[name], precision=WEIGHT_ONLY if only_weight else NVFP4, reason="")
            placed.add(name)
        elif type(child) is nn.Embedding and child.max_norm is None and id(child.weight) in shared:
            made = QuantEmbedding(shared[id(child.weight)].weight, child.weight.dtype)
            embeddings.append(Layer(name, "Embedding", tuple(child.weight.shape), NVFP4))
        elif held is not None:
            raise WrongKindError(
                f"the weight of {name} is packed, and the layer is a {type(child).__name__}",
                "nn.Linear and nn.Embedding layers take packed weights: leave the others out when packing",
            )
        else:
            continue
        carry_over(child, made)
        root = put(root, child, made)
    kept = [layer if name in placed else _kept(layer, root) for name, layer in layers.items()]
    return QuantizedModel(root, recipe, (*kept, *embeddings))


def _equal(one: PackedWeight, other: PackedWeight) -> bool:
    scales = (each.block_scale.view(torch.uint8) for each in (one, other))  # torch compares no float8
    same = torch.equal(one.packed, other.packed) and torch.equal(*scales)
    return same and torch.equal(one.per_tensor_scale, other.per_tensor_scale)


def _kept(layer: Layer, root: nn.Module) -> Layer:
    """Return the row of a layer that is not quantized."""
    if not layer.quantized:
        return layer
    dtype = str(next(root.get_submodule(layer.name).parameters()).dtype).removeprefix("torch.")
    return replace(layer, precision=dtype, reason="not quantized in the checkpoint")
