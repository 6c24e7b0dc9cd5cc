"""This project's columns of `accuracy.py`."""

from __future__ import annotations

from quantizers import ours

from nvfp4_trt.recipe import Recipe, Smooth, SmoothMethod

RANK = 32


def smoothed(recipe: Recipe) -> Recipe:
    """Return the recipe with smoothing."""
    return recipe.model_copy(update={"smooth": Smooth(method=SmoothMethod.SMOOTHQUANT, alpha=0.5)})


def branched(recipe: Recipe) -> Recipe:
    """Return the recipe with low-rank branches."""
    return recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"low_rank": RANK})})


OURS = (
    ours("max"),
    ours("max, smooth", smoothed),
    ours(f"max, rank {RANK}", branched),
    ours(f"max, smooth, rank {RANK}", lambda recipe: branched(smoothed(recipe))),
)
