"""`nvfp4-trt plan MODEL --gpu NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.goal_options import dim_option
from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.recipe_options import dynamic_option, recipe_options

if TYPE_CHECKING:
    from nvfp4_trt.building import Optimize


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--gpu", "gpus", multiple=True, metavar="NAME", help="A GPU, such as rtx5090 or b200. Repeat for more."
)
@dim_option
@click.option(
    "--optimize",
    type=click.Choice(["off", "fast", "full"]),
    default="fast",
    show_default=True,
    help="Which ways to lower MODEL the builder would try, see `build engine`.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Times measured on the GPU, as JSON: modelled times are scaled by them.",
)
@recipe_options()
@dynamic_option
@model_options
@output_options
def plan(
    model: Path,
    gpus: tuple[str, ...],
    dims: tuple[str, ...],
    optimize: Optimize,
    calibrate: Path | None,
    recipe: str | None,
    dynamic: tuple[str, ...],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    fp8: tuple[str, ...],
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **source: Any,
) -> None:
    """Predict what an engine of MODEL will be, against FP8 and bf16: kernels, bytes, memory, a modelled time.

    MODEL is a portable ONNX file, to which --recipe and its like do not apply; a float one, which is planned as
    --recipe would quantize it; or what `export` takes. No weights of an ONNX file are read. Nothing is built, and
    no time is measured: times are of OPT, memory is of MAX.

    Example: nvfp4-trt plan model.onnx --gpu rtx5090 --gpu b200 --dim batch=1:8:32
    """
    with working(f"planning {model}"):
        from nvfp4_trt.checking import is_onnx
        from nvfp4_trt.planning import plan_onnx
        from nvfp4_trt.printing.plan import plan_summary

        options: dict[str, Any] = {"gpus": gpus, "dims": dims, "optimize": optimize, "calibrate": calibrate}
        options |= {"recipe": recipe, "only": only, "exclude": exclude, "fp8": fp8}
        told = source_options(source) | {"dynamic": dynamic}
        if is_onnx(model) and not any(told.values()):
            found = plan_onnx(model, **options)  # without torch, which takes longer than the plan
        else:
            from nvfp4_trt import api

            found = api.plan(model, **options, **told)
    print_result(found.model_dump(mode="json"), as_json=as_json, people=lambda: plan_summary(found))
