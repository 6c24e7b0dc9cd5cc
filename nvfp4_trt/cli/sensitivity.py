"""`nvfp4-trt sensitivity MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.recipe_options import recipe_options

if TYPE_CHECKING:
    from nvfp4_trt.mixing import Keep, Method


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@recipe_options()
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "estimate"]),
    default="auto",
    show_default=True,
    help="Run the model once for each layer, or take derivatives; auto is exact up to 64 layers.",
)
@click.option(
    "--budget",
    metavar="BUDGET",
    help="Find the recipe that keeps the fewest layers: sqnr=DB, or metric:MODULE:FUNCTION>=VALUE[%].",
)
@click.option(
    "--keep",
    type=click.Choice(["fp8", "model"]),
    default="fp8",
    show_default=True,
    help="What layers are kept in: FP8, or the model's own dtype.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the recipe found (.yaml).")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture (.png or .svg).")
@model_options
@output_options
def sensitivity(
    model: Path,
    recipe: str | None,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    fp8: tuple[str, ...],
    method: Method,
    budget: str | None,
    keep: Keep,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **source: Any,
) -> None:
    """Find what quantizing each layer of MODEL does to its output, the worst first.

    With --budget, find a recipe that meets it with few layers kept in higher precision. Exits with status 1 where
    no recipe does.

    Example: nvfp4-trt sensitivity model.pt --model models:net --inputs inputs.npz --budget sqnr=18 -o mixed.yaml
    """
    with working(f"running {model}") as say:
        from nvfp4_trt import api
        from nvfp4_trt.printing import sensitivity_summary
        from nvfp4_trt.recipe import DEFAULT_RECIPE

        result = api.sensitivity(
            model,
            recipe=recipe or DEFAULT_RECIPE,
            only=only,
            exclude=exclude,
            fp8=fp8,
            method=method,
            budget=budget,
            keep=keep,
            output=output,
            plot=plot,
            progress=say,
            **source_options(source),
        )
    written = {name: str(path) for name, path in (("recipe_file", output), ("plot", plot)) if path is not None}
    print_result(
        result.as_dict() | written,
        as_json=as_json,
        people=lambda: sensitivity_summary(result, list(written.values())),
    )
