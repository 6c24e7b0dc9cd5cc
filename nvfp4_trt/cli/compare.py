"""`nvfp4-trt compare FILE --reference MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.layer_options import layer_arguments, layer_options
from nvfp4_trt.cli.options import model_options, source_options
from nvfp4_trt.cli.output import output_options, print_error, print_result, working
from nvfp4_trt.errors import BackendsDisagreeError, BelowThresholdError

if TYPE_CHECKING:
    from nvfp4_trt.comparison import Comparison
    from nvfp4_trt.errors import Nvfp4Error


@click.command()
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    required=True,
    type=click.Path(path_type=Path),
    help="The model that ONNX was exported from, or outputs saved with --save-outputs (.json).",
)
@click.option("--min-sqnr", type=float, metavar="DB", help="Fail where an output's SQNR is below this.")
@click.option("--min-cosine", type=float, metavar="C", help="Fail where an output's cosine is below this.")
@click.option("--max-abs-error", type=float, metavar="E", help="Fail where an output's error exceeds this.")
@click.option("--save-inputs", type=click.Path(path_type=Path), help="Write the inputs, for polygraphy run.")
@click.option("--save-outputs", type=click.Path(path_type=Path), help="Write the reference's outputs likewise.")
@layer_options
@model_options
@output_options
def compare(
    onnx: Path,
    reference: Path,
    min_sqnr: float | None,
    min_cosine: float | None,
    max_abs_error: float | None,
    save_inputs: Path | None,
    save_outputs: Path | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **given: Any,
) -> None:
    """Compare ONNX, run on ONNX Runtime, with the float model that it came from.

    With --per-layer, also with the quantized torch model: what each layer adds to the error and what it inherits,
    the worst first, and the first layer where the quantized torch model and ONNX disagree.

    Exits with status 1 where a threshold is missed, or the two disagree.

    Example: nvfp4-trt compare model.onnx --reference model.pt --model models:net --inputs inputs.npz
    --min-cosine 0.9
    """
    with working(f"comparing {onnx} with {reference}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing import comparison_summary

        result = api.compare(
            onnx,
            reference,
            save_inputs=save_inputs,
            save_outputs=save_outputs,
            **layer_arguments(given),
            **source_options(given),
        )
    missed = _missed(result, min_sqnr, min_cosine, max_abs_error)
    told = result.as_dict() | ({} if missed is None else {"error": missed.as_dict()})
    print_result(told, as_json=as_json, people=lambda: comparison_summary(result))
    if missed is not None:
        if not as_json:
            print_error(missed.as_dict(), as_json=False)
        click.get_current_context().exit(missed.exit_status)


def _missed(
    result: Comparison, min_sqnr: float | None, min_cosine: float | None, max_abs_error: float | None
) -> Nvfp4Error | None:
    try:
        result.check(min_sqnr, min_cosine, max_abs_error)
        if result.layers is not None:
            result.layers.check()
    except (BelowThresholdError, BackendsDisagreeError) as missed:
        return missed
    return None
