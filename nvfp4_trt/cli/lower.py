"""`nvfp4-trt lower FILE -o FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The ONNX file to write.")
@output_options
def lower(
    model: Path,
    output: Path,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write the form of MODEL that TensorRT builds FP4 GEMMs from, for trtexec and the like."""
    with working(f"lowering {model}"):
        from nvfp4_trt.building import lower_file

        lowering = lower_file(model, output)
    changes = lowering.changes
    print_result(
        {"onnx": str(output), "passes": changes, "gemms": len(lowering.gemms)},
        as_json=as_json,
        people=lambda: [
            *(f"{name}: {count}" for name, count in changes.items()),
            f"{output}: {len(lowering.gemms)} GEMMs with NVFP4 weights",
        ],
    )
