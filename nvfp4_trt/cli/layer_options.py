"""Options of `compare --per-layer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path)


def layer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which layers are compared, and with what."""
    for option in (
        click.option("--engine", type=_PATH, help="Compare the engine of such a file too, on this machine's GPU."),
        click.option(
            "--lowered",
            type=_PATH,
            metavar="FILE",
            help="Compare what `lower` made of such a file too, on ONNX's reference evaluator.",
        ),
        click.option(
            "--save-tapped",
            type=_PATH,
            help="Write ONNX with what enters and leaves each layer among its outputs, for lower and build.",
        ),
        click.option(
            "--min-agreement",
            type=float,
            metavar="DB",
            help="Fail where the quantized torch model and ONNX are further apart at a layer on the same input.",
        ),
        click.option(
            "--calibration", type=_PATH, help="Static scales for quantizing again, from `nvfp4-trt calibrate`."
        ),
        click.option(
            "--quantized",
            type=_PATH,
            metavar="CHECKPOINT",
            help="The quantized torch model; by default the reference is quantized again as the file says.",
        ),
        click.option(
            "--layer", "layers", multiple=True, metavar="PATTERN", help="Look at only the layers that match."
        ),
        click.option(
            "--per-layer", is_flag=True, help="Compare what enters and leaves every quantized layer too."
        ),
    ):
        function = option(function)
    return function


def layer_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Pick the API's keyword arguments for those options out of a command's."""
    names = (
        "per_layer",
        "layers",
        "quantized",
        "calibration",
        "min_agreement",
        "save_tapped",
        "lowered",
        "engine",
    )
    return {name: given[name] for name in names}
