"""A model whose layers can be in one of several precisions, each by itself: everything is packed once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

from nvfp4_trt.quantization.convert import open_attention, put, quantize_module
from nvfp4_trt.quantization.select import select

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import nn

    from nvfp4_trt.layers import Layer
    from nvfp4_trt.quantization.convert import Calibrator
    from nvfp4_trt.recipe import Recipe

    Form = Literal["model", "nvfp4"]
    """What a layer is in: the model's own dtype, or FP4."""


class Switchable:
    """A copy of a model with the layers of a recipe in every form; it begins with all of them as they were.

    Args:
        module: the model, which stays as it was.
        recipe: what to select and how to quantize it.
        calibrate: as for `quantize_module`.

    Raises:
        Nvfp4Error: see `quantize_module`.
    """

    def __init__(self, module: nn.Module, recipe: Recipe, calibrate: Calibrator) -> None:
        self.module = open_attention(copy.deepcopy(module))
        self.layers: tuple[Layer, ...] = tuple(each for each in select(self.module, recipe) if each.quantized)
        self.names = tuple(layer.name for layer in self.layers)
        self._places: dict[str, list[dict[Form, nn.Module]]] = {}
        self._now: dict[str, Form] = dict.fromkeys(self.names, "model")
        self._make("nvfp4", recipe, calibrate)

    def form(self, name: str, form: Form) -> nn.Module:
        """Return a layer in one of its forms."""
        return self._places[name][0][form]

    def arrange(self, forms: Mapping[str, Form]) -> nn.Module:
        """Put each layer in its form, those not named in the model's own, and return the module."""
        for name, now in self._now.items():
            wanted = forms.get(name, "model")
            if wanted != now:
                for place in self._places[name]:
                    self.module = put(self.module, place[now], place[wanted])
                self._now[name] = wanted
        return self.module

    def _make(self, form: Form, recipe: Recipe, calibrate: Calibrator) -> None:
        """Quantize all layers in place, keep what they became, and take them back."""
        before = dict(self.module.named_modules())
        quantized = quantize_module(self.module, recipe, calibrate=calibrate, inplace=True)
        after = dict(quantized.module.named_modules())
        self.module = quantized.module
        tied = [layer.name for layer in quantized.layers if layer.quantized and layer.name not in self._now]
        for name in self.names:
            places = [name, *_reading(after, tied, name)]
            self._places.setdefault(name, [{"model": before[place]} for place in places])
            for place, held in zip(places, self._places[name], strict=True):
                held[form] = after[place]
            self._now[name] = form
        self.arrange({})


def _reading(modules: Mapping[str, nn.Module], tied: Collection[str], name: str) -> list[str]:
    """Return those embeddings that look their rows up in a layer's weight."""
    weight = modules[name].weight_packed
    return [each for each in tied if modules[each].weight_packed is weight]
