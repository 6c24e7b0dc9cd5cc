"""`nvfp4-trt check MODEL`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--model", "factory", metavar="MODULE:FUNCTION", help="What makes the module of a state dict.")
@click.option("--trust-pickle", is_flag=True, help="Let the file run code, where loading it means that.")
@click.option(
    "--require",
    multiple=True,
    metavar="PATTERN",
    help="End with status 1 unless the layers that match will be FP4. Repeat for more.",
)
@output_options
def check(
    model: Path,
    factory: str | None,
    trust_pickle: bool,
    require: tuple[str, ...],
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Tell which layers of MODEL will be FP4, and why the others will not; nothing is built.

    MODEL is any ONNX file (float, portable or lowered), or what `export` takes. No weights are read.

    Example: nvfp4-trt check model.onnx --require 'encoder.*'
    """
    with working(f"checking {model}"):
        from nvfp4_trt.checking import check as check_model
        from nvfp4_trt.printing.check import check_object, check_summary

        checked = check_model(model, factory=factory, trust_pickle=trust_pickle, require=require)
    print_result(check_object(checked), as_json=as_json, people=lambda: check_summary(checked))
