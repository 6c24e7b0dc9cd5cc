"""How a weight's scales and codes are chosen: one method a file, by the names of `recipe.WeightMethod`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.quantization.methods.choice import ScaleChoice
from nvfp4_trt.quantization.methods.four_over_six import FOUR_OVER_SIX
from nvfp4_trt.quantization.methods.max import MAX
from nvfp4_trt.quantization.methods.mse import MSE
from nvfp4_trt.recipe import WeightMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FOUR_OVER_SIX", "MAX", "MSE", "ScaleChoice", "scale_choice"]

_CHOICES: Mapping[WeightMethod, ScaleChoice] = {
    WeightMethod.MAX: MAX,
    WeightMethod.MSE: MSE,
    WeightMethod.FOUR_OVER_SIX: FOUR_OVER_SIX,
    WeightMethod.GPTQ: MAX,
    WeightMethod.GPTQ_MSE: MSE,
    WeightMethod.GPTQ_FOUR_OVER_SIX: FOUR_OVER_SIX,
}


def scale_choice(method: WeightMethod) -> ScaleChoice:
    """Return how a method chooses scales; those with `gptq` choose them for each group of columns in turn."""
    return _CHOICES[method]
