"""Options of commands that run engines: on which inputs, and what engines may do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add them."""
    for option in (
        click.option(
            "--allow-host-code",
            is_flag=True,
            help="Let the engine run code of its own on the host, where it has some.",
        ),
        click.option(
            "--backend",
            type=click.Choice(["tensorrt", "tensorrt_rtx"]),
            help="The TensorRT that built the engine. Default: what its record says.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of drawn inputs."),
        click.option(
            "--inputs",
            type=click.Path(path_type=Path),
            metavar="FILE.npz",
            help="Inputs. Default: drawn ones, of the shapes that the export recorded.",
        ),
    ):
        function = option(function)
    return function
