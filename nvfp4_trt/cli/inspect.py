"""`nvfp4-trt inspect FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def inspect(
    file: Path,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Show the layers of FILE, a portable ONNX file or an engine: shapes, precision, scales, bytes.

    Of a folder that `build engine --buckets` made, show what each bucket takes.

    Example: nvfp4-trt inspect model.engine
    """
    with working(f"reading {file}"):
        from nvfp4_trt.printing import inspect_file

        inspected = inspect_file(file)
    print_result(inspected.as_object, as_json=as_json, people=lambda: inspected.parts)
