"""Reading a file of conformance vectors (docs/conformance.md says what is in it)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import torch

from nvfp4_trt.errors import NotAModelError
from nvfp4_trt.loading.safetensors_files import read_entry, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VERSION = "1"
PREFIX = "conformance."
_PARTS = ("x", "packed", "block_scale", "scale", "output")
_SEEN_AS = {torch.bfloat16: (torch.uint16, ml_dtypes.bfloat16), torch.float8_e4m3fn: (torch.uint8, np.uint8)}


@dataclass(frozen=True)
class Case:
    """One input, and what it becomes."""

    name: str
    scaling: str
    """`tensor`, `token`, `static` or `single`."""
    x: NDArray[Any]
    """fp32, fp16 or bf16 (`ml_dtypes`) `[N, K]`."""
    packed: NDArray[np.uint8]
    """`[N, K/2]`, low nibble first."""
    block_scale: NDArray[np.uint8]
    """The bytes of e4m3fn `[N, K/16]`."""
    scale: NDArray[np.float32]
    """`[]`, or `[N, 1]` per token; 1 for a single level."""
    output: NDArray[np.float32]
    """`[N, K]`: e2m1 · block scale · scale, in this order."""


@dataclass(frozen=True)
class Vectors:
    """The cases of one scale rule."""

    rule: str
    cases: tuple[Case, ...]


def read_vectors(path: Path) -> Vectors:
    """Read one file.

    Raises:
        FileTruncatedError, NotAModelError: it is cut short, or is no file of conformance vectors.
    """
    header = read_header(path)
    try:
        rule, told = header.metadata[f"{PREFIX}rule"], json.loads(header.metadata[f"{PREFIX}cases"])
        if header.metadata[f"{PREFIX}version"] != VERSION:
            raise ValueError("its version is another")  # noqa: TRY301 (told with the others)
        cases = tuple(
            Case(name, scaling, *(_array(read_entry(header.tensors[f"{name}/{part}"])) for part in _PARTS))
            for name, scaling in told.items()
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise NotAModelError(
            f"{path} holds no conformance vectors of version {VERSION} ({type(error).__name__}: {error})",
            "make them with tests/vectors/make_vectors.py",
        ) from error
    return Vectors(rule, cases)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.dtype not in _SEEN_AS:
        found: NDArray[Any] = tensor.numpy()
        return found
    raw, dtype = _SEEN_AS[tensor.dtype]
    return tensor.view(raw).numpy().view(dtype)
