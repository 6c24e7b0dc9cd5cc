"""Options that several commands share: where the model and its inputs come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHT_METHODS = ("max", "mse", "four-over-six", "gptq", "gptq+mse", "gptq+four-over-six")
"""The values of `recipe.WeightMethod`, which takes pydantic to import."""


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
