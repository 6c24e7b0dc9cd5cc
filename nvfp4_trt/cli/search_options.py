"""How to search for the engine of the least modelled time: what is tried, for which GPU, how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.completing import complete_gpu

if TYPE_CHECKING:
    from collections.abc import Callable


def search_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add them."""
    for option in (
        click.option(
            "--no-cache",
            "cache",
            is_flag=True,
            flag_value=False,
            default=True,
            help="Neither use outcomes of earlier builds nor keep those of this one.",
        ),
        click.option(
            "--budget",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="What the search may take beside the plain build. Default: 60 (fast), 600 (full).",
        ),
        click.option(
            "--gpu",
            metavar="NAME",
            shell_complete=complete_gpu,
            help="The GPU that times are modelled on, such as rtx5090. Default: one of the first target.",
        ),
        click.option(
            "--optimize",
            type=click.Choice(["off", "fast", "full"]),
            default="fast",
            show_default=True,
            help="Lower MODEL in several ways, and keep the engine that takes the least modelled time: those that "
            "win somewhere (fast), all (full), or the plain one alone (off).",
        ),
    ):
        function = option(function)
    return function
