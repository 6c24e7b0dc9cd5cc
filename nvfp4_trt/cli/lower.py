"""`nvfp4-trt lower FILE -o FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The ONNX file to write.")
@click.option("--plugin/--no-plugin", help="Lower to the plugin's nodes, for full TensorRT. Default: --no-plugin.")
@click.option(
    "--bodies",
    is_flag=True,
    help="With --plugin: keep the nodes' bodies in standard operators, for ONNX Runtime; not for TensorRT.",
)
@output_options
def lower(
    model: Path,
    output: Path,
    plugin: bool,
    bodies: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write the form of MODEL that TensorRT builds FP4 GEMMs from, for trtexec and the like.

    Example: nvfp4-trt lower model.onnx -o lowered.onnx
    """
    if bodies and not plugin:
        raise click.UsageError("--bodies goes with --plugin: without plugin nodes there are none")
    with working(f"lowering {model}"):
        from nvfp4_trt.building import lower_file

        lowering = lower_file(model, output, plugin=plugin, bodies=bodies)
    changes = lowering.changes
    print_result(
        {
            "onnx": str(output),
            "passes": changes,
            "gemms": len(lowering.gemms),
            "plugin_gemms": len(lowering.plugin_gemms),
        },
        as_json=as_json,
        people=lambda: [
            *(f"{name}: {count}" for name, count in changes.items()),
            f"{output}: {_counted(len(lowering.gemms), len(lowering.plugin_gemms))}",
        ],
    )


def _counted(gemms: int, by_plugin: int) -> str:
    told = f"{gemms} GEMMs with NVFP4 weights"
    return f"{told}, and {by_plugin} of the plugin" if by_plugin else told
