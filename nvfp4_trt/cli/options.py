"""Options that several commands share: where the model and its inputs come from, and how much is shown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.completing import complete_file

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHT_METHODS = ("max", "mse", "four-over-six", "gptq", "gptq+mse", "gptq+four-over-six")
"""The values of `recipe.WeightMethod`, which takes pydantic to import."""

_VERBOSITY = "nvfp4_trt.verbosity"


def verbosity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-v` and `-q`; `verbosity` tells which was given."""
    for flags, level, told in (
        (("-q", "--quiet"), -1, "Show only errors and the result."),
        (("-v", "--verbose"), 1, "Show every stage with its time, and what libraries log."),
    ):
        function = click.option(
            *flags, is_flag=True, expose_value=False, callback=partial(_set_verbosity, level), help=told
        )(function)
    return function


def verbosity() -> int:
    """Return how much the command that runs is to show: -1 errors and the result, 0 progress, 1 details too."""
    context = click.get_current_context(silent=True)
    return 0 if context is None else int(context.meta.get(_VERBOSITY, 0))


def _set_verbosity(level: int, context: click.Context, _parameter: click.Parameter, given: bool) -> None:
    if not given:
        return
    if context.meta.setdefault(_VERBOSITY, level) != level:
        raise click.UsageError("--verbose and --quiet exclude each other")


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how to load a model and what to feed it."""
    for option in (
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float16", "bfloat16"]),
            help="Cast the model and its floating inputs first.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of random inputs."),
        click.option(
            "--inputs",
            metavar="FILE|MODULE:FUNCTION",
            shell_complete=complete_file,
            help="Example inputs: .npz, .safetensors, or a function that yields batches.",
        ),
        click.option(
            "--input",
            "input_specs",
            multiple=True,
            metavar="NAME:DTYPE:SHAPE[:LOW..HIGH]",
            help="One random input, for example input_ids:int64:2x128:0..30000. Repeat for each.",
        ),
        click.option("--trust-pickle", is_flag=True, help="Let the file run code, where loading it means that."),
        click.option(
            "--model",
            "factory",
            metavar="MODULE:FUNCTION",
            help="What makes the module of a state dict or safetensors file.",
        ),
    ):
        function = option(function)
    return function


def source_options(given: dict[str, Any]) -> dict[str, Any]:
    """Pick the API's keyword arguments for those options out of a command's."""
    names = ("factory", "trust_pickle", "input_specs", "inputs", "seed", "dtype")
    return {name: given[name] for name in names}
