"""`nvfp4-trt convert IN OUT --to FORMAT`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.output import output_options, print_result, working

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.checkpoints import Converted


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    type=click.Choice(["packed", "torchao", "compressed-tensors", "modelopt"]),
    help="The format to write.",
)
@output_options
def convert(
    checkpoint: Path,
    output: Path,
    to: str,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Write an NVFP4 CHECKPOINT in another format, with the same codes and scales.

    CHECKPOINT is a folder of compressed-tensors, ModelOpt or torchao, or a safetensors file of torchao or of
    `nvfp4-trt pack`; which, it says itself. OUTPUT is a new folder, or a .safetensors file where the format needs
    no config.json (packed).

    Example: nvfp4-trt convert packed.safetensors converted/ --to compressed-tensors
    """
    with working(f"converting {checkpoint}"):
        from nvfp4_trt.checkpoints import Format, convert_checkpoint

        made = convert_checkpoint(checkpoint, output, Format(to))
    print_result(_object(made), as_json=as_json, people=lambda: _summary(made))


def _object(made: Converted) -> dict[str, Any]:
    return {
        "checkpoint": str(made.path),
        "from": str(made.source_format),
        "to": str(made.format),
        "weights": list(made.weights),
        "copied": made.copied,
        "bytes": made.bytes,
    }


def _summary(made: Converted) -> list[RenderableType]:
    from rich.markup import escape

    return [
        escape(
            f"wrote {made.path}: {made.source_format} → {made.format}, {len(made.weights)} weights, "
            f"{made.copied} other tensors, {made.bytes / 2**20:.1f} MiB"
        )
    ]
