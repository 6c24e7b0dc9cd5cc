"""What quantizing each layer does to the output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.api.sources import cast, example_inputs, modes_kept
from nvfp4_trt.loading import load_model
from nvfp4_trt.recipe import DEFAULT_RECIPE, Recipe, load_recipe, refuse_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.mixing import Budget, Keep, Method, Sensitivity


def sensitivity(
    model: Source,
    *,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    method: Method = "auto",
    budget: str | Budget | None = None,
    keep: Keep = "fp8",
    output: str | Path | None = None,
    plot: str | Path | None = None,
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
    progress: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Find what quantizing each layer does to the model's output and, for a budget, which layers to keep.

    Args:
        model: as for `export`; a module in memory stays as it was.
        inputs: as for `export`; every batch is run.
        input_specs: as for `export`.
        seed: as for `export`.
        recipe: whose layers, and how they are quantized.
        only: as for `export`.
        exclude: as for `export`.
        fp8: as for `export`; these layers are FP8 in every mixture, and not looked at.
        method: `exact`, `estimate` or `auto`, see `nvfp4_trt.mixing.measure_sensitivity`.
        budget: `sqnr=DB`, or `metric:module:function>=VALUE`, see `nvfp4_trt.mixing.parse_budget`.
        keep: what layers are kept in: `fp8`, or the `model`'s own dtype.
        output: the `.yaml` file for the recipe found; needs a budget.
        plot: a `.png` or `.svg` file.
        factory: as for `export`.
        trust_pickle: as for `export`.
        dtype: as for `export`.
        progress: called with a line of text that says how far it is.

    Raises:
        BudgetUnmetError: no mixture of precisions meets the budget.
        Nvfp4Error: any other of `nvfp4_trt.errors`.
    """
    from nvfp4_trt.mixing import check_outputs, measure_sensitivity, parse_budget, write_plot, write_recipe

    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    recipe_path, plot_path = (None if path is None else Path(path) for path in (output, plot))
    check_outputs(recipe_path, plot_path, has_budget=wanted is not None)
    chosen = load_recipe(recipe).with_patterns(only, exclude, fp8)
    refuse_transforms(chosen, "sensitivity is measured on the model as it is")
    with modes_kept(model):
        loaded = load_model(model, factory=factory, trust_pickle=trust_pickle)
        given = example_inputs(loaded, inputs, input_specs, seed)
        module, batches = cast(loaded.module, given.batches, dtype, copy=isinstance(model, nn.Module))
        result = measure_sensitivity(
            module, chosen, batches, method=method, budget=wanted, keep=keep, progress=progress
        )
    if recipe_path is not None:
        write_recipe(result, recipe_path)
    if plot_path is not None:
        write_plot(result, plot_path)
    return result
