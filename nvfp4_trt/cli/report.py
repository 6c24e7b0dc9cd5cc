"""`nvfp4-trt report MODEL -o FILE.html`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.completing import complete_gpu
from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .html file to write.")
@click.option(
    "--engine",
    type=click.Path(path_type=Path),
    help="The engine built from MODEL, or its record; by default the one beside MODEL under its name.",
)
@click.option(
    "--gpu", metavar="NAME", shell_complete=complete_gpu, help="The GPU that times are modelled on, as rtx5090."
)
@output_options
def report(
    model: Path,
    output: Path,
    engine: Path | None,
    gpu: str | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write a page about MODEL, a portable ONNX file: layers, bytes, modelled time, errors, scales, the audit.

    The page is one file that needs no network. What was not given is said in its place, and how to give it.

    Example: nvfp4-trt report model.onnx -o report.html --engine model.engine
    """
    with working(f"reporting on {model}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing.report import report_summary

        made = api.report(model, output, engine=engine, gpu=gpu)
    print_result(
        {"html": str(output), "report": made.model_dump(mode="json")},
        as_json=as_json,
        people=lambda: report_summary(made, output),
    )
