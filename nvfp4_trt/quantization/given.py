"""Putting weights that are packed already into a module: nothing is quantized, every code stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY, Layer
from nvfp4_trt.quantization.convert import QuantizedModel, carry_over, put
from nvfp4_trt.quantization.modules import ActivationQuantizer, PackedWeight, QuantEmbedding, QuantLinear
from nvfp4_trt.quantization.select import select
from nvfp4_trt.recipe import ActivationScaling, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping


class GivenWeight(NamedTuple):
    """A layer's packed weight, and how its input is quantized."""

    weight: PackedWeight
    scaling: ActivationScaling
    scale: Tensor | None
    """Of, and only of, static scaling: fp32 `[]`."""


def place_given(root: nn.Module, given: Mapping[str, GivenWeight], recipe: Recipe) -> QuantizedModel:
    """Replace layers of a module by their NVFP4 forms, in place, with the weights that are given.

    Args:
        root: a module whose weights of the given layers are placeholders; an embedding tied with one of them is
            replaced too.
        given: by the names of `nn.Linear` or `nn.Embedding` layers.
        recipe: what the layers have in common, for the record.

    Raises:
        WrongKindError: a layer is of another class.
    """
    layers = {layer.name: layer for layer in select(root, recipe.model_copy(update={"only": (), "exclude": ()}))}
    named = {name: root.get_submodule(name) for name in given}
    shared = {id(named[name].weight): each for name, each in given.items()}
    embeddings = []
    for name, child in list(root.named_modules()):
        held = given.get(name)
        if held is not None and type(child) is nn.Linear:
            quantizer = ActivationQuantizer(held.scaling, held.scale)
            made: nn.Module = QuantLinear(held.weight, child.bias, quantizer, child.weight.dtype)
            only_weight = held.scaling is ActivationScaling.NONE
            layers[name] = replace(layers[name], precision=WEIGHT_ONLY if only_weight else NVFP4, reason="")
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
    kept = [layer if name in given else _kept(layer, root) for name, layer in layers.items()]
    return QuantizedModel(root, recipe, (*kept, *embeddings))


def _kept(layer: Layer, root: nn.Module) -> Layer:
    """Return the row of a layer that is not quantized."""
    if not layer.quantized:
        return layer
    dtype = str(next(root.get_submodule(layer.name).parameters()).dtype).removeprefix("torch.")
    return replace(layer, precision=dtype, reason="not quantized in the checkpoint")
