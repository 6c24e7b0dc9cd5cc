"""`nvfp4-trt check MODEL`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.completing import complete_file
from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--model", "factory", metavar="MODULE:FUNCTION", help="What makes the module of a state dict.")
@click.option("--trust-pickle", is_flag=True, help="Let the file run code, where loading it means that.")
@click.option(
    "--inputs",
    metavar="FILE|MODULE:FUNCTION",
    shell_complete=complete_file,
    help="Example inputs of a PyTorch model: products of activations get rows too.",
)
@click.option(
    "--input",
    "input_specs",
    multiple=True,
    metavar="NAME:DTYPE:SHAPE[:LOW..HIGH]",
    help="One random input instead, for example input_ids:int64:2x128:0..30000. Repeat for each.",
)
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
    inputs: str | None,
    input_specs: tuple[str, ...],
    require: tuple[str, ...],
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Tell which layers of MODEL will be FP4, and why the others will not; nothing is built.

    MODEL is any ONNX file (float, portable or lowered), or what `export` takes. No weights are read. A model that
    is not ONNX is traced if it has example inputs, and only then has rows for products of activations.

    Example: nvfp4-trt check model.onnx --require 'encoder.*'
    """
    with working(f"checking {model}"):
        from nvfp4_trt.checking import check as check_model
        from nvfp4_trt.printing.check import check_object, check_summary

        checked = check_model(
            model,
            factory=factory,
            trust_pickle=trust_pickle,
            inputs=inputs,
            input_specs=input_specs,
            require=require,
        )
    print_result(check_object(checked), as_json=as_json, people=lambda: check_summary(checked))
