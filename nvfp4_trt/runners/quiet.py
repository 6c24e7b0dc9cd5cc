"""Keeping Polygraphy's and ONNX Runtime's running commentary off stdout and stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnxruntime
from polygraphy.logger import G_LOGGER

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORT_WARNING, _ORT_ERROR = 2, 3


@contextmanager
def quiet() -> Iterator[None]:
    """Silence both loggers; what they would say on a failure is in the exception that they raise.

    Polygraphy logs everything below its severity CRITICAL to stdout, where `--json` output goes.
    """
    onnxruntime.set_default_logger_severity(_ORT_ERROR)
    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
            yield
    finally:
        onnxruntime.set_default_logger_severity(_ORT_WARNING)
