"""Mixed precision: what quantizing each layer does to a model's output, and the fewest layers to keep."""

from nvfp4_trt.mixing.budget import Budget, parse_budget
from nvfp4_trt.mixing.outputs import check_outputs
from nvfp4_trt.mixing.plot import write_plot
from nvfp4_trt.mixing.recipe_file import recipe_text, write_recipe
from nvfp4_trt.mixing.result import Found, LayerDamage, Sensitivity
from nvfp4_trt.mixing.sensitivity import KEEP, METHODS, Keep, Method, measure_sensitivity

__all__ = [
    "KEEP",
    "METHODS",
    "Budget",
    "Found",
    "Keep",
    "LayerDamage",
    "Method",
    "Sensitivity",
    "check_outputs",
    "measure_sensitivity",
    "parse_budget",
    "recipe_text",
    "write_plot",
    "write_recipe",
]
