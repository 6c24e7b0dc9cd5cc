"""How far long work is: one line that changes on a terminal, plain lines elsewhere, each with the time it took."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

_WORTH_SECONDS = 1.0
"""A stage that took less is not told of."""
_PLAIN_SECONDS = 10.0
"""Between two lines about one stage, where none can change in place."""


class Progress:
    """Shows what is done at the moment, and each stage that is over with its time.

    Args:
        shown: whether anything is.
        every_stage: tell of stages under a second too.
        heartbeat: seconds between two lines about one stage, where standard error is no terminal.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        *,
        shown: bool,
        every_stage: bool = False,
        heartbeat: float = _PLAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shown = shown
        self._least = 0.0 if every_stage else _WORTH_SECONDS
        self._heartbeat = heartbeat
        self._clock = clock
        self._current: list[tuple[str, float]] = []
        self._live: Callable[[str], None] | None = None
        self._line: Callable[[str], None] = lambda text: click.echo(text, err=True)

    def say(self, text: str) -> None:
        """Say something else of the stage that is under way, such as how far it is."""
        if self._current:
            self._current[-1] = (text, self._current[-1][1])
            self._show(text)

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Show `what` until it ends, and then, where it took long, the seconds; nothing of one that failed."""
        self._current.append((what, self._clock()))
        self._show(what)
        try:
            yield
        except BaseException:
            self._current.pop()
            raise
        _, started = self._current.pop()
        took = self._clock() - started
        if self._shown and took >= self._least:
            self._line(f"{what}: {took:.1f} s")
        if self._current:
            self._show(self._current[-1][0])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the live line of a terminal, or plain lines now and then, meanwhile."""
        if not self._shown:
            yield
            return
        from rich.console import Console

        console = Console(stderr=True)
        with self._on_terminal(console) if console.is_terminal else self._in_lines():
            yield

    def _show(self, text: str) -> None:
        if self._live is not None:
            self._live(text)

    @contextmanager
    def _on_terminal(self, console: Console) -> Iterator[None]:
        from rich.markup import escape
        from rich.progress import Progress as RichProgress
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        before = self._line
        with RichProgress(*columns, console=console, transient=True, redirect_stdout=False) as live:
            task = live.add_task(escape(self._current[-1][0]) if self._current else "")
            self._live = lambda text: live.update(task, description=escape(text))
            self._line = lambda text: console.print(escape(text), highlight=False)
            try:
                yield
            finally:
                self._live, self._line = None, before

    @contextmanager
    def _in_lines(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._beat, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, done: threading.Event) -> None:
        while not done.wait(self._heartbeat):
            if current := self._current[-1:]:
                text, started = current[0]
                seconds = round(self._clock() - started)
                click.echo(f"{text}, {timedelta(seconds=seconds)}", err=True)


def batch_progress(what: str, say: Callable[[str], None]) -> Callable[[int], None]:
    """Return the function that is told the number of batches done, and says so.

    Args:
        what: what is done with them, for example `calibrating model.pt`.
        say: from `working`.
    """
    return lambda done: say(f"{what}: {done} {'batch' if done == 1 else 'batches'}")
