"""What is compared in `accuracy.py`: ways of making an FP4 model, ours and the peers'.

A quantizer gets the float model, calibration batches and the names of the layers to quantize, and yields a model
for each mode that it has. The model is left as it was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import nvfp4_trt
from nvfp4_trt.quantization import ActivationQuantizer, QuantLinear
from nvfp4_trt.quantization.transforms import BUFFERS
from nvfp4_trt.recipe import RECIPES, ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasks.task import Batch
    from torch import nn

    from nvfp4_trt.recipe import Recipe

MODES = {
    "weight-only": ActivationScaling.NONE,
    "per token": ActivationScaling.DYNAMIC_TOKEN,
    "per tensor": ActivationScaling.DYNAMIC,
    "static": ActivationScaling.STATIC,
    "single-level": ActivationScaling.SINGLE_LEVEL,
}
"""How activations are quantized: the rows of the table."""


class Made(NamedTuple):
    """A quantized model in one mode."""

    mode: str
    module: nn.Module
    bits: float
    """Stored for each weight of the quantized layers, scales and everything beside them included."""


@dataclass(frozen=True)
class Quantizer:
    """A column of the table."""

    name: str
    models: Callable[[nn.Module, Sequence[Batch], Sequence[str]], Iterator[Made]]
    """Yields one mode after another; a model is used up before the next one is asked for."""


def ours(name: str, change: Callable[[Recipe], Recipe] = lambda recipe: recipe) -> Quantizer:
    """Return this project's quantizer with what `change` makes of our recipes.

    Weights are made twice: for inputs as they are, and for static activations. Other modes of activations have the
    latter, and quantizers of inputs of their own.
    """

    def models(module: nn.Module, calibration: Sequence[Batch], names: Sequence[str]) -> Iterator[Made]:
        alone = _ours(module, change(RECIPES["w4a16"]), calibration, names)
        yield Made("weight-only", alone, bits_per_weight(_layers(alone)))
        del alone
        made = _ours(module, change(RECIPES["w4a4-static"]), calibration, names)
        layers = _layers(made)
        static = [layer.input_quantizer for layer in layers]
        bits = bits_per_weight(layers)
        for mode, scaling in MODES.items():
            if scaling is ActivationScaling.NONE:
                continue
            for layer, calibrated in zip(layers, static, strict=True):
                is_static = scaling is ActivationScaling.STATIC
                layer.input_quantizer = calibrated if is_static else ActivationQuantizer(scaling)
            yield Made(mode, made, bits)

    return Quantizer(name, models)


def _ours(module: nn.Module, recipe: Recipe, calibration: Sequence[Batch], names: Sequence[str]) -> nn.Module:
    return nvfp4_trt.quantize(module, recipe.model_copy(update={"only": tuple(names)}), inputs=calibration).module


def _layers(module: nn.Module) -> list[QuantLinear]:
    return [layer for layer in module.modules() if isinstance(layer, QuantLinear)]


def bits_per_weight(layers: Sequence[QuantLinear]) -> float:
    """Return the bits that the layers' buffers take, over the number of weights.

    What transforms add is in the model's dtype, and counted as in a model of 16 bits.
    """
    stored, weights = {}, {}
    for layer in layers:
        weights[id(layer.weight_packed)] = layer.weight_packed.numel() * 2
        for name, buffer in layer.named_buffers():
            if not name.startswith("input_quantizer"):
                stored[buffer.data_ptr()] = buffer.numel() * (16 if name in BUFFERS else buffer.itemsize * 8)
    return sum(stored.values()) / sum(weights.values())


def linears_of(module: nn.Module, names: Sequence[str]) -> tuple[nn.Module, list[nn.Linear]]:
    """Return a copy of a model, and its layers of these names."""
    copied = copy.deepcopy(module)
    return copied, [copied.get_submodule(name) for name in names]  # type: ignore[misc]
