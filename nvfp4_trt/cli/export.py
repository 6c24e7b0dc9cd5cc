"""`nvfp4-trt export MODEL -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.completing import complete_recipe
from nvfp4_trt.cli.options import WEIGHT_METHODS, model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The ONNX file to write.")
@click.option(
    "--recipe",
    default=None,
    shell_complete=complete_recipe,
    help="A built-in recipe (see `nvfp4-trt recipes`) or a .yaml file.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Static scales that `nvfp4-trt calibrate` wrote, and their recipe.",
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Quantize only the layers that match.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave the layers that match as they are.")
@click.option("--fix", is_flag=True, help="First rewrite layers so that more can be FP4; the meaning stays.")
@click.option("--fp8", multiple=True, metavar="PATTERN", help="Make the layers that match FP8 instead of NVFP4.")
@click.option(
    "--weights",
    type=click.Choice(WEIGHT_METHODS),
    help="How the weights' scales and codes are chosen, for all layers; gptq and its like need --inputs.",
)
@click.option(
    "--dynamic",
    multiple=True,
    metavar="[NAME:]DIM,DIM",
    help="Name the dynamic leading axes, for example batch,sequence; `_` keeps an axis fixed.",
)
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
