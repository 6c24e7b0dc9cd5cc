"""Whether what a run is to write can be written, told before the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.atomic import check_writable
from nvfp4_trt.errors import InputSpecError
from nvfp4_trt.mixing.plot import check_plot
from nvfp4_trt.mixing.recipe_file import check_recipe_path

if TYPE_CHECKING:
    from pathlib import Path


def check_outputs(recipe: Path | None, plot: Path | None, *, has_budget: bool) -> None:
    """Refuse outputs that could not be written.

    Args:
        recipe: of the recipe found.
        plot: of the damage.
        has_budget: whether a recipe will be looked for.

    Raises:
        InputSpecError: a recipe is to be written without a budget, or a file's name has a wrong ending.
        DependencyMissingError: the plot needs matplotlib.
        OutputUnwritableError: see `nvfp4_trt.atomic`.
    """
    if recipe is not None:
        if not has_budget:
            raise InputSpecError(
                f"-o {recipe}: no recipe is looked for without a budget", "add --budget sqnr=18, for example"
            )
        check_recipe_path(recipe)
        check_writable(recipe)
    if plot is not None:
        check_plot(plot)
        check_writable(plot)
