"""Options of commands that quantize a model: the recipe, the layers it is for, and what stays dynamic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.completing import complete_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def recipe_options(default: str | None = None) -> Decorator:
    """Return what adds `--recipe`, of that default, and `--only`, `--exclude` and `--fp8`."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, told in (
            ("--fp8", "Make the layers that match FP8 instead of NVFP4."),
            ("--exclude", "Leave the layers that match as they are."),
            ("--only", "Quantize only the layers that match."),
        ):
            function = click.option(name, multiple=True, metavar="PATTERN", help=told)(function)
        return click.option(
            "--recipe",
            default=default,
            show_default=default is not None,
            shell_complete=complete_recipe,
            help="A built-in recipe (see `nvfp4-trt recipes`) or a .yaml file.",
        )(function)

    return add


def dynamic_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--dynamic`."""
    return click.option(
        "--dynamic",
        multiple=True,
        metavar="[NAME:]DIM,DIM",
        help="Name the dynamic leading axes, for example batch,sequence; `_` keeps an axis fixed.",
    )(function)
