"""A model whose layers can be in one of several precisions, each by itself: everything is packed once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

from nvfp4_trt.calibration import calibrator_for
from nvfp4_trt.quantization.convert import open_attention, put, quantize_module
from nvfp4_trt.quantization.select import select

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from nvfp4_trt.layers import Layer
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.recipe import Recipe

    Form = Literal["model", "nvfp4", "fp8"]
    """What a layer is in; `model` is the model's own dtype."""


class Switchable:
    """A copy of a model with the layers of a recipe in every form; it begins with all of them as they were.

    It holds the model and, of each form that a layer has been run in, the weight's values in the model's dtype.

    Args:
        module: the model, which stays as it was.
        recipe: what to select and how to quantize it. Layers that it makes FP8 are FP8 wherever any layer of a
            mixture is quantized.
        batches: for static scales, and for weight methods that look at inputs.
        fp8: whether FP8 is among the forms of its NVFP4 layers.

    Raises:
        Nvfp4Error: see `quantize_module`.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        batches: Sequence[Batch] = (),
        *,
        fp8: bool = False,
    ) -> None:
        self._batches = batches
        self.module = open_attention(copy.deepcopy(module))
        selected = [each for each in select(self.module, recipe) if each.quantized]
        self.layers: tuple[Layer, ...] = tuple(each for each in selected if each.is_fp4)
        """Those that the recipe makes NVFP4."""
        self.names = tuple(layer.name for layer in self.layers)
        self.fixed: dict[str, Form] = {layer.name: "fp8" for layer in selected if layer.is_fp8}
        """The layers that the recipe makes FP8."""
        self._places: dict[str, list[dict[Form, nn.Module]]] = {}
        self._now: dict[str, Form] = dict.fromkeys([layer.name for layer in selected], "model")
        self._make(self.all_in("nvfp4"), recipe)
        if fp8:
            every = recipe.model_copy(update={"fp8": tuple(self._now)})
            self._make(self.all_in("fp8"), every)

    def all_in(self, form: Form) -> dict[str, Form]:
        """Return the mixture in which every layer that is free to be is in one form."""
        free: dict[str, Form] = dict.fromkeys(self.names, form)
        return free | self.fixed

    def form(self, name: str, form: Form) -> nn.Module:
        """Return a layer in one of its forms."""
        return self._places[name][0][form]

    def arrange(self, forms: Mapping[str, Form]) -> nn.Module:
        """Put each layer in its form, those not named in the model's own, and return the module."""
        for name, now in self._now.items():
            wanted = forms.get(name, "model")
            if wanted != now:
                for place in self._places[name]:
                    old, new = (place.get(form, place["model"]) for form in (now, wanted))
                    self.module = put(self.module, old, new)
                self._now[name] = wanted
        return self.module

    def _make(self, forms: Mapping[str, Form], recipe: Recipe) -> None:
        """Quantize all layers in place, keep what they became, and take them back."""
        before = dict(self.module.named_modules())
        calibrate = calibrator_for(recipe, None, self._batches)
        quantized = quantize_module(self.module, recipe, calibrate=calibrate, inputs=self._batches, inplace=True)
        after = dict(quantized.module.named_modules())
        self.module = quantized.module
        tied = [layer.name for layer in quantized.layers if layer.quantized and layer.name not in self._now]
        for name, form in forms.items():
            places = [name, *_reading(after, tied, name)]
            held = self._places.setdefault(name, [])
            # A form in which fewer modules change than in another leaves the rest as they were.
            held += [{"model": before[place]} for place in places[len(held) :]]
            for place, kinds in zip(places, held, strict=False):
                kinds[form] = after[place]
            _remember(after[name])
            self._now[name] = form
        self.arrange({})


def _remember(layer: nn.Module) -> None:
    """Let a quantized layer keep its weight's values: on a CPU, most of a run would be to work them out again."""
    compute: Callable[[torch.dtype], Tensor] = layer.dequantized  # type: ignore[assignment]
    known: dict[torch.dtype, Tensor] = {}

    def dequantized(dtype: torch.dtype) -> Tensor:
        if dtype not in known:
            known[dtype] = compute(dtype)
        return known[dtype]

    layer.__dict__["dequantized"] = dequantized  # in front of the method


def _reading(modules: Mapping[str, nn.Module], tied: Collection[str], name: str) -> list[str]:
    """Return those embeddings that look their rows up in a layer's packed weight."""
    weight = getattr(modules[name], "weight_packed", None)
    return [each for each in tied if modules[each].weight_packed is weight]
