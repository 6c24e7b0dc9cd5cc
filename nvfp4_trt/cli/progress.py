"""How far work through batches is: part of the live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN_SECONDS = 10.0
"""Between two lines, where none can change in place."""


def batch_progress(
    what: str, say: Callable[[str], None], *, every: float = _PLAIN_SECONDS
) -> Callable[[int], None]:
    """Return the function that is told the number of batches done, and shows it with the time that has passed.

    Args:
        what: what is done with them, for example `calibrating model.pt`.
        say: from `working`: changes the live line of a terminal.
        every: seconds between two lines, where standard error is no terminal.
    """
    started = told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        text = f"{what}: {done} {'batch' if done == 1 else 'batches'}, {timedelta(seconds=round(now - started))}"
        say(text)
        if not sys.stderr.isatty() and now - told >= every:
            told = now
            click.echo(text, err=True)

    return tell
