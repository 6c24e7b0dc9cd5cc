"""`nvfp4-trt export MODEL -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.options import WEIGHT_METHODS, model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.recipe_options import dynamic_option, recipe_options


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The ONNX file to write.")
@recipe_options()
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Static scales that `nvfp4-trt calibrate` wrote, and their recipe.",
)
@click.option("--fix", is_flag=True, help="First rewrite layers so that more can be FP4; the meaning stays.")
@click.option(
    "--weights",
    type=click.Choice(WEIGHT_METHODS),
    help="How the weights' scales and codes are chosen, for all layers; gptq and its like need --inputs.",
)
@dynamic_option
@model_options
@output_options
def export(
    model: Path,
    output: Path,
    recipe: str | None,
    calibration: Path | None,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    fp8: tuple[str, ...],
    fix: bool,
    weights: str | None,
    dynamic: tuple[str, ...],
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **source: Any,
) -> None:
    """Load MODEL, quantize it to NVFP4 and export a portable ONNX file.

    MODEL is a state dict or safetensors file (with --model), a torch.export program, a pickled module (with
    --trust-pickle), or a Hugging Face folder. Of an NVFP4 checkpoint (torchao, compressed-tensors, ModelOpt,
    packed) the codes and scales are taken as they are.

    Example: nvfp4-trt export model.pt -o model.onnx --model models:net --inputs inputs.npz --dynamic batch
    """
    with working(f"exporting {model}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing import export_object, export_summary

        artifact = api.export(
            model,
            output,
            recipe=recipe,
            calibration=calibration,
            only=only,
            exclude=exclude,
            fp8=fp8,
            fix=fix,
            weights=weights,
            dynamic=dynamic,
            **source_options(source),
        )
    print_result(
        export_object(artifact, random_inputs=bool(source["input_specs"])),
        as_json=as_json,
        people=lambda: export_summary(artifact, source["input_specs"], source["seed"]),
    )
