"""`nvfp4-trt recipes`."""

from __future__ import annotations

import click

from nvfp4_trt.cli.output import output_options, print_result


@click.command()
@output_options
def recipes(
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """List the built-in recipes.

    Example: nvfp4-trt recipes
    """
    from nvfp4_trt.printing import recipes_table
    from nvfp4_trt.recipe import DEFAULT_RECIPE, RECIPES

    print_result(
        {
            "default": DEFAULT_RECIPE,
            "recipes": [recipe.model_dump(mode="json") for recipe in RECIPES.values()],
        },
        as_json=as_json,
        people=lambda: [recipes_table(RECIPES, DEFAULT_RECIPE)],
    )
