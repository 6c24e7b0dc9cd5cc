"""Damage of each layer, and the recipe that meets a budget with the fewest layers kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, get_args

from nvfp4_trt.calibration import calibrator_for
from nvfp4_trt.comparison.result import SQNR_LIMIT
from nvfp4_trt.mixing.estimate import estimated
from nvfp4_trt.mixing.exact import measured
from nvfp4_trt.mixing.reference import Reference
from nvfp4_trt.mixing.result import Found, LayerDamage, Sensitivity
from nvfp4_trt.mixing.search import fewest_kept, unmet
from nvfp4_trt.mixing.switchable import Switchable
from nvfp4_trt.quantization import quantize_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.mixing.budget import Budget
    from nvfp4_trt.mixing.switchable import Form
    from nvfp4_trt.recipe import Recipe

    Progress = Callable[[str], None]

Method = Literal["auto", "exact", "estimate"]
METHODS: tuple[Method, ...] = get_args(Method)
Keep = Literal["fp8", "model"]
KEEP: tuple[Keep, ...] = get_args(Keep)

MOST_EXACT = 64
"""Layers up to which `auto` measures: above it, as many runs of the whole model take too long."""


def measure_sensitivity(
    module: nn.Module,
    recipe: Recipe,
    batches: Sequence[Batch],
    *,
    method: Method = "auto",
    budget: Budget | None = None,
    keep: Keep = "fp8",
    progress: Progress | None = None,
) -> Sensitivity:
    """Find what quantizing each layer does to the output and, for a budget, which layers to keep.

    Args:
        module: the float model, in evaluation mode; it stays as it was.
        recipe: selects the layers and says how they are quantized.
        batches: what to run, on the model's device; they also calibrate a static recipe, and `gptq`
            looks at them.
        method: `exact` runs the model once for each layer; `estimate` takes derivatives; `auto` is exact up to
            `MOST_EXACT` layers.
        budget: what a recipe has to come to.
        keep: what layers are kept in: `fp8`, or the `model`'s own dtype.
        progress: called with a line of text that says how far it is.

    Raises:
        BudgetUnmetError: the budget is not met with all layers but one kept.
        MetricFailedError: see `Budget`.
        Nvfp4Error: see `quantize_module`, `Reference` and `estimated`.
    """
    start = time.monotonic()

    def said(what: str) -> None:
        if progress is not None:
            progress(f"{what}, {time.monotonic() - start:.0f} s")

    said("quantizing every layer")
    model = Switchable(module, recipe, batches, fp8=budget is not None and keep == "fp8")
    reference = Reference(module, batches)
    chosen = _chosen(method, len(model.names))
    run = measured if chosen == "exact" else estimated
    found = run(model, reference, lambda done, total: said(f"layers: {chosen} {done} of {total}"))
    together = reference.sqnr_db(model.arrange(model.all_in("nvfp4")))
    layers = _sorted(model, found)
    kept = None
    if budget is not None:
        kept = _Mixer(module, recipe, model, reference, budget, keep, batches, said).found(layers)
    return Sensitivity(layers, together, recipe.name, chosen, len(batches), time.monotonic() - start, kept)


def _chosen(method: Method, layers: int) -> Literal["exact", "estimate"]:
    if method == "auto":
        return "exact" if layers <= MOST_EXACT else "estimate"
    return method


def _sorted(model: Switchable, sqnr: Mapping[str, float]) -> tuple[LayerDamage, ...]:
    noise = {name: 0.0 if db >= SQNR_LIMIT else 10 ** (-db / 10) for name, db in sqnr.items()}
    total = sum(noise.values()) or 1.0
    rows = [
        LayerDamage(layer.name, layer.shape, sqnr[layer.name], noise[layer.name] / total) for layer in model.layers
    ]
    return tuple(sorted(rows, key=lambda row: row.sqnr_db))


class _Mixer:
    """Searches a recipe that meets a budget."""

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        model: Switchable,
        reference: Reference,
        budget: Budget,
        keep: Keep,
        batches: Sequence[Batch],
        said: Progress,
    ) -> None:
        self._module, self._recipe, self._model = module, recipe, model
        self._reference, self._budget, self._keep = reference, budget, keep
        self._batches, self._said = batches, said
        self._tried = 0
        self._of_float = budget.of_float(module)

    def found(self, layers: Sequence[LayerDamage]) -> Found:
        """Return the recipe; one layer at least stays FP4."""
        order = [layer.name for layer in layers][:-1]
        kept = list(fewest_kept(order, self._budget, self._value_keeping).names)
        # A weight method may look at the layers in front: what counts is the recipe quantized as it will be.
        recipe, value = self._quantized(kept)
        while not self._budget.meets(value):
            more = [name for name in order if name not in kept]
            if not more:
                raise unmet(self._budget, value, len(order))
            kept.append(more[0])
            recipe, value = self._quantized(kept)
        return Found(recipe, tuple(kept), self._keep, self._budget.text, value, self._tried)

    def _value_keeping(self, kept: Sequence[str]) -> float:
        self._tried += 1
        self._said(f"mixtures tried: {self._tried}")
        forms: dict[str, Form] = {name: self._keep if name in kept else "nvfp4" for name in self._model.names}
        return self._value(self._model.arrange(forms | self._model.fixed))

    def _quantized(self, kept: Sequence[str]) -> tuple[Recipe, float]:
        self._tried += 1
        self._said("quantizing with the recipe found")
        recipe = self._keeping(kept)
        quantized = quantize_module(
            self._module, recipe, calibrate=calibrator_for(recipe, None, self._batches), inputs=self._batches
        )
        return recipe, self._value(quantized.module)

    def _value(self, module: nn.Module) -> float:
        return self._budget.value(module, self._reference, self._of_float)

    def _keeping(self, kept: Sequence[str]) -> Recipe:
        named = tuple(name for name in self._model.names if name in kept)
        if self._keep == "fp8":
            return self._recipe.model_copy(update={"fp8": (*self._recipe.fp8, *named)})
        return self._recipe.model_copy(update={"exclude": (*self._recipe.exclude, *named)})
