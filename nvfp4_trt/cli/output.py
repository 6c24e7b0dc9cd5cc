"""Where output goes: one JSON object or text for people to standard output, all else to the other."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.options import verbosity, verbosity_options
from nvfp4_trt.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_PIPE_CLOSED = 141
_PIPED_WIDTH = 250
"""Columns of what goes to a file or a pipe: names are not to be folded there."""


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, `--debug`, `-v` and `-q`, which every command has."""
    for option in (
        verbosity_options,
        click.option("--debug", is_flag=True, help="Show the whole traceback of an error."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else."),
    ):
        function = option(function)
    return function


@contextlib.contextmanager
def working(what: str, *, shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Show that work is under way, with its stages; whatever libraries print meanwhile goes to standard error.

    With `--quiet` nothing of it is shown, with `--verbose` also what libraries log.

    Args:
        what: what is done.
        shown: whether to show it: of several processes that work together, one does.

    Yields:
        The function that says something else instead, for work that knows how far it is.
    """
    from nvfp4_trt.stages import listening

    level = verbosity()
    progress = Progress(shown=shown and level >= 0, every_stage=level > 0)
    with _libraries(level), progress.running(), progress.stage(what), listening(progress.stage):
        yield progress.say


@contextlib.contextmanager
def _libraries(level: int) -> Iterator[None]:
    """Keep libraries off standard output: on standard error, or silent with `--quiet`.

    Their remarks about themselves, which users can do nothing about, are shown with `--verbose` only.
    """
    if level > 0:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    logging.disable(logging.CRITICAL if level < 0 else logging.WARNING)
    try:
        with contextlib.ExitStack() as stack:
            if level < 0:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            yield
    finally:
        logging.disable(logging.NOTSET)


def print_result(result: dict[str, Any], *, as_json: bool, people: Callable[[], list[RenderableType]]) -> None:
    """Print a command's result, for a program or for people."""
    if as_json:
        _say(json.dumps(result, allow_nan=False))
        return
    from rich.console import Console

    terminal = Console(highlight=False)
    if terminal.is_terminal:
        terminal.print(*people(), sep="\n")
        return
    piped = Console(width=_PIPED_WIDTH, highlight=False, soft_wrap=True)
    with piped.capture() as captured:
        piped.print(*people(), sep="\n")
    # Tables are padded to their full width, which is of no use in a file.
    _say("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _say(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)


def print_error(error: dict[str, str], *, as_json: bool) -> None:
    """Print how a command failed."""
    if as_json:
        click.echo(json.dumps({"error": error}))
        return
    click.echo(f"error[{error['code']}]: {error['message']}", err=True)
    click.echo(f"hint: {error['hint']}", err=True)
