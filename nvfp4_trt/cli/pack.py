"""`nvfp4-trt pack FILE -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.options import WEIGHT_METHODS
from nvfp4_trt.cli.output import output_options, print_result, working

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.quantization.packed_files import PackedFile


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The safetensors file to write."
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Pack only the weights that match.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave the weights that match as they are.")
@click.option(
    "--rule",
    type=click.Choice(["spec", "torchao", "modelopt", "compressed-tensors"]),
    default="spec",
    show_default=True,
    help="How block scales are rounded.",
)
@click.option(
    "--method",
    type=click.Choice(WEIGHT_METHODS),
    default="max",
    show_default=True,
    help="How scales are chosen; gptq and its like need inputs, which `export` takes.",
)
@output_options
def pack(
    file: Path,
    output: Path,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    rule: str,
    method: str,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Pack the weights of a safetensors FILE into NVFP4; all other tensors are copied.

    A weight is a tensor [N, K] of float16, bfloat16 or float32 with K a multiple of 16. Patterns are matched with
    its name without `.weight`.

    Example: nvfp4-trt pack model.safetensors -o packed.safetensors --exclude head
    """
    with working(f"packing {file}"):
        from nvfp4_trt import api

        made = api.pack(file, output, only=only, exclude=exclude, rule=rule, method=method)
    print_result(_object(made), as_json=as_json, people=lambda: _summary(made))


def _object(made: PackedFile) -> dict[str, Any]:
    return {
        "safetensors": str(made.path),
        "weights": list(made.weights),
        "copied": made.copied,
        "source_bytes": made.source_bytes,
        "bytes": made.bytes,
    }


def _summary(made: PackedFile) -> list[RenderableType]:
    from rich.markup import escape

    before, after = made.source_bytes / 2**20, made.bytes / 2**20
    return [
        escape(
            f"wrote {made.path}: {len(made.weights)} weights packed, {made.copied} tensors copied, "
            f"{before:.1f} MiB → {after:.1f} MiB"
        )
    ]
