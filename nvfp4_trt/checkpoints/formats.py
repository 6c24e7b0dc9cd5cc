"""Which format a checkpoint is in, and its reader and writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.checkpoints.compressed_tensors import (
    is_compressed_tensors,
    read_compressed_tensors,
    write_compressed_tensors,
)
from nvfp4_trt.checkpoints.modelopt import is_modelopt, read_modelopt, write_modelopt
from nvfp4_trt.checkpoints.packed import is_packed, read_packed, write_packed
from nvfp4_trt.checkpoints.source import read_source
from nvfp4_trt.checkpoints.torchao import is_torchao, read_torchao, write_torchao
from nvfp4_trt.checkpoints.weights import Format
from nvfp4_trt.errors import TensorMissingError, WrongKindError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvfp4_trt.checkpoints.source import Source
    from nvfp4_trt.checkpoints.weights import Checkpoint, Written


class _Handler(NamedTuple):
    recognizes: Callable[[Source], bool]
    read: Callable[[Source], Checkpoint]
    write: Callable[[Checkpoint], Written]


_HANDLERS = {
    Format.PACKED: _Handler(is_packed, read_packed, write_packed),
    Format.TORCHAO: _Handler(is_torchao, read_torchao, write_torchao),
    Format.COMPRESSED_TENSORS: _Handler(is_compressed_tensors, read_compressed_tensors, write_compressed_tensors),
    Format.MODELOPT: _Handler(is_modelopt, read_modelopt, write_modelopt),
}


def format_of(source: Source) -> Format | None:
    """Return the format that a source's configuration and metadata name; None where they name none."""
    return next((each for each, handler in _HANDLERS.items() if handler.recognizes(source)), None)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check an NVFP4 checkpoint of any format.

    Args:
        path: a Hugging Face folder, or a safetensors file of a format that keeps its description in the header.

    Raises:
        WrongKindError: it is none.
        CheckpointConfigError, TensorMissingError, TensorUnexpectedError, TensorInvalidError, ScaleInvalidError:
            its configuration or its tensors are not what their format says.
        FileMissingError, FileTruncatedError, NotAModelError: see `read_source`.
    """
    source = read_source(path)
    found = format_of(source)
    if found is None:
        raise WrongKindError(
            f"{path} is no NVFP4 checkpoint: neither config.json nor the tensors' metadata says so",
            "a folder needs its config.json; float weights go through `nvfp4-trt pack` or `nvfp4-trt export`",
        )
    checkpoint = _HANDLERS[found].read(source)
    if not checkpoint.weights:
        raise TensorMissingError(f"{path} says that it is {found}, and holds no packed weight", "fetch it again")
    return checkpoint


def write_checkpoint(checkpoint: Checkpoint, to: Format) -> Written:
    """Return a checkpoint in the form of a format.

    Raises:
        FormatCannotHoldError: the format has no place for something; names the tensor.
    """
    return _HANDLERS[to].write(checkpoint)
