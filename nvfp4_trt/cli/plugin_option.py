"""`--plugin`, `--plugin=PACK` and `--no-plugin`: an option whose value is optional and is never the next word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_FLAG = "--plugin"


class PluginCommand(click.Command):
    """A command on which `--plugin` stands alone or has its value behind `=`.

    Click would take the next word, such as the model's file, for an optional value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with an empty value given to a bare `--plugin`."""
        end = args.index("--") if "--" in args else len(args)
        words = [f"{_FLAG}=" if word == _FLAG else word for word in args[:end]]
        return super().parse_args(ctx, [*words, *args[end:]])


def plugin_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--plugin[=PACK]` and `--no-plugin`; the command's class must be `PluginCommand`."""
    for option in (
        click.option(
            "--no-plugin", is_flag=True, help="Rewrite scales into TensorRT's own operators (the default)."
        ),
        click.option(
            _FLAG,
            metavar="[=PACK]",
            help="Lower to the plugin's nodes, for full TensorRT. PACK is a kernel pack that `build plugin` made; "
            "without it, one is made at first use and kept in the user's cache.",
        ),
    ):
        function = option(function)
    return function


def chosen_plugin(plugin: str | None, *, no_plugin: bool, library: Path | None, form: str = "jit") -> bool | Path:
    """Return what the options ask for: False, True, or the folder of a kernel pack.

    Raises:
        click.UsageError: they contradict each other.
    """
    if no_plugin and (plugin is not None or library is not None):
        other = "--plugin-library" if plugin is None else _FLAG
        raise click.UsageError(f"{other} and --no-plugin exclude each other")
    if form == "aot" and (plugin is None or library is not None):
        raise click.UsageError("--plugin-form aot goes with --plugin, and not with --plugin-library")
    if not plugin:
        return plugin is not None
    return Path(plugin)
