"""This project's columns of `accuracy.py`: its weight methods, and what goes with them."""

from __future__ import annotations

from functools import partial

from quantizers import ours

from nvfp4_trt.recipe import Recipe, Smooth, SmoothMethod, WeightMethod

RANK = 32
BEST = WeightMethod.GPTQ_MSE
"""The weight method that is shown with transforms."""


def smoothed(recipe: Recipe) -> Recipe:
    """Return the recipe with smoothing."""
    return recipe.model_copy(update={"smooth": Smooth(method=SmoothMethod.SMOOTHQUANT, alpha=0.5)})


def branched(recipe: Recipe) -> Recipe:
    """Return the recipe with low-rank branches."""
    return recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"low_rank": RANK})})


OURS = (
    *(ours(str(each), partial(Recipe.with_method, method=each)) for each in WeightMethod),
    ours("max, smooth", smoothed),
    ours(f"max, rank {RANK}", branched),
    ours(f"{BEST}, rank {RANK}", lambda recipe: branched(recipe.with_method(BEST))),
    ours(f"{BEST}, smooth, rank {RANK}", lambda recipe: branched(smoothed(recipe.with_method(BEST)))),
)
