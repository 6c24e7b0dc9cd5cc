"""`nvfp4-trt calibrate MODEL -o FILE`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.progress import batch_progress
from nvfp4_trt.cli.recipe_options import recipe_options


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The .json or .safetensors file to write.",
)
@recipe_options("w4a4-static")
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

    The recipe has static scaling, and names the observer; of FP8 layers it is max.

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
