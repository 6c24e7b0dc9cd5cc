"""`nvfp4-trt report MODEL [OTHER] -o FILE.html`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.completing import complete_gpu
from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("other", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .html file to write.")
@click.option(
    "--engine",
    type=click.Path(path_type=Path),
    help="The engine built from MODEL, or its record; by default the one beside MODEL under its name.",
)
@click.option("--other-engine", type=click.Path(path_type=Path), help="The same of OTHER.")
@click.option(
    "--gpu", metavar="NAME", shell_complete=complete_gpu, help="The GPU that times are modelled on, as rtx5090."
)
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=MIN:OPT:MAX",
    help="Without an engine: range of a dynamic dimension for the plan, as `plan` takes it.",
)
@click.option(
    "--bench", type=click.Path(path_type=Path), help="Times of MODEL's engine, which `nvfp4-trt bench -o` wrote."
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="The float model, run on the inputs for the errors of each layer and for what enters it.",
)
@model_options
@output_options
def report(
    model: Path,
    other: Path | None,
    output: Path,
    engine: Path | None,
    other_engine: Path | None,
    gpu: str | None,
    dims: tuple[str, ...],
    bench: Path | None,
    reference: Path | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **source: Any,
) -> None:
    """Write a page about MODEL, a portable ONNX file: layers, bytes, modelled time, errors, scales, the audit.

    The page is one file that needs no network. Without an engine its kernels and times are what `plan` predicts;
    with one and --gpu the prediction stands beside. What was not given is said in its place, and how to give it.
    With OTHER, the page has both side by side; each of the two may also be a page, or the JSON of one.

    Example: nvfp4-trt report model.onnx -o report.html --engine model.engine --reference model.pt
    --model models:net --inputs inputs.npz
    """
    with working(f"reporting on {model}"):
        from nvfp4_trt.printing.report import report_object, report_summary
        from nvfp4_trt.reporting import check_request, write_report

        if reference is None and not source["inputs"] and not source["input_specs"]:  # nothing that takes torch
            sources = [each for each in (model, other) if each is not None]
            check_request(output, sources, (engine, other_engine), gpu)
            made = write_report(output, sources, (engine, other_engine), gpu, bench=bench, dims=dims)
        else:
            from nvfp4_trt import api

            made = api.report(
                model,
                output,
                other=other,
                engine=engine,
                other_engine=other_engine,
                gpu=gpu,
                dims=dims,
                bench=bench,
                reference=reference,
                **source_options(source),
            )
    print_result(
        report_object(made.report, made.other, output),
        as_json=as_json,
        people=lambda: report_summary(made.report, made.other, output),
    )
