"""`nvfp4-trt prove MODEL -o FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.goal_options import backend_option, dim_option, target_option
from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.recipe_options import dynamic_option, recipe_options


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--without-gpu", is_flag=True, help="Leave out what needs the GPU: running and timing the engine.")
@recipe_options()
@dynamic_option
@backend_option
@target_option
@dim_option
@click.option(
    "--against",
    type=click.Choice(["bf16", "fp16", "nothing"]),
    default="bf16",
    show_default=True,
    help="What the engine is timed beside.",
)
@model_options
@output_options
def prove(
    *,
    model: Path,
    output: Path,
    without_gpu: bool,
    against: str,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    recipe: str | None,
    dynamic: tuple[str, ...],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    fp8: tuple[str, ...],
    backend: str | None,
    targets: tuple[str, ...],
    dims: tuple[str, ...],
    **source: Any,
) -> None:
    """Do everything with MODEL: export, build, audit, compare, run, time and report it; leave one folder to share.

    Without --target the engine is for this machine's GPU. On a machine without one, --without-gpu does what needs
    none, and the summary says what was not run. Not yet run on a Blackwell GPU by this project.

    Example: nvfp4-trt prove model.pt -o proof/ --model models:net --inputs inputs.npz --without-gpu
    """
    with working(f"proving {model}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing.proof import proof_summary

        made = api.prove(
            model,
            output,
            gpu=not without_gpu,
            against=None if against == "nothing" else against,
            recipe=recipe,
            dynamic=dynamic,
            only=only,
            exclude=exclude,
            fp8=fp8,
            backend=backend,
            targets=targets,
            dims=dims,
            **source_options(source),
        )
    print_result(made.as_dict(), as_json=as_json, people=lambda: proof_summary(made))
