"""Stages of long work, for whoever shows progress: the library marks them, and nobody has to listen."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Listener = Callable[[str], AbstractContextManager[object]]

_LISTENER: ContextVar[Listener | None] = ContextVar("nvfp4_trt.stages", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell of every stage of this thread's work meanwhile.

    Args:
        listener: called with what begins, such as `quantizing 37 layers`; its result is entered when the stage
            begins and left when it ends.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Mark a part of the work that may take more than a second."""
    listener = _LISTENER.get()
    with nullcontext() if listener is None else listener(what):
        yield
