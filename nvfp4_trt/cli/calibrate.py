"""`nvfp4-trt calibrate MODEL -o FILE`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.completing import complete_recipe
from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.progress import batch_progress


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The .json or .safetensors file to write.",
)
@click.option(
    "--recipe",
    default="w4a4-static",
    shell_complete=complete_recipe,
    show_default=True,
    help="A recipe with static scaling; it names the observer.",
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Calibrate only the layers that match.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave the layers that match as they are.")
@click.option("--fp8", multiple=True, metavar="PATTERN", help="These layers will be FP8: their observer is max.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Keep the statistics here, and go on from them if it exists."
)
@click.option("--device", help="Run there, for example cuda: with torchrun, each process on its own GPU.")
@click.option("--sharded", is_flag=True, help="With torchrun: --inputs gives each process its own batches.")
@model_options
@output_options
def calibrate(
    model: Path,
    output: Path,
    recipe: str,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    fp8: tuple[str, ...],
    state: Path | None,
    device: str | None,
    sharded: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **source: Any,
) -> None:
    """Find MODEL's static activation scales on --inputs, for `export --calibration`.

    Over several processes: torchrun --nproc-per-node N -m nvfp4_trt.cli calibrate MODEL ... The batches are shared
    out, the first process writes the file, and the result is that of one process.

    Example: nvfp4-trt calibrate model.pt -o scales.json --model models:net --inputs inputs.npz
    """
    first = os.environ.get("RANK", "0") == "0"
    with working(f"loading {model}", shown=first) as say:
        from nvfp4_trt import api
        from nvfp4_trt.printing import calibration_object, calibration_summary

        made = api.calibrate(
            model,
            recipe,
            only=only,
            exclude=exclude,
            fp8=fp8,
            output=output,
            state=state,
            device=device,
            sharded=sharded,
            progress=batch_progress(f"calibrating {model}", say) if first else None,
            **source_options(source),
        )
    if first:
        print_result(
            calibration_object(made, output),
            as_json=as_json,
            people=lambda: calibration_summary(made, output, source["input_specs"]),
        )
