"""Inputs of an engine: a `.npz` file's, or drawn ones of the shapes that its record keeps of the export."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes  # noqa: F401 (gives NumPy bfloat16 by name)
import numpy as np

from nvfp4_trt.errors import FileMissingError, InputsMismatchError, InputsMissingError, WrongKindError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nvfp4_trt.building import EngineRecord

    Array = NDArray[np.generic]
    Feed = dict[str, Array]


class Port(NamedTuple):
    """An input of an engine."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """Extents; -1 where any fits."""


def read_feed(path: Path) -> Feed:
    """Read a `.npz` file of named arrays.

    Raises:
        FileMissingError: there is no such file.
        WrongKindError: it is no `.npz` file of plain arrays.
    """
    if not path.is_file():
        raise FileMissingError(f"the inputs {path} do not exist", "check the path")
    hint = "save them with `numpy.savez('inputs.npz', name=array)`"
    if not zipfile.is_zipfile(path):
        raise WrongKindError(f"--inputs {path} is no .npz file", hint)
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise WrongKindError(f"--inputs {path} is no .npz file of arrays", hint) from error


def drawn_feed(ports: Mapping[str, Port], record: EngineRecord | None, seed: int) -> Feed:
    """Draw inputs, the same ones for the same seed.

    Floats are normal; integers are 0 or 1, which every table of an embedding has, and masks are.

    Args:
        ports: the engine's inputs.
        record: whose profile has the shapes of the export's example inputs; without it, shapes must be fixed.
        seed: of the numbers.

    Raises:
        InputsMissingError: the shape of an input is not known.
    """
    generator = np.random.default_rng(seed)
    return {name: _draw(generator, port.dtype, _shape(name, port, record)) for name, port in ports.items()}


def fitted(feed: Mapping[str, Array], ports: Mapping[str, Port]) -> Feed:
    """Return inputs as an engine takes them: float32 where it takes bfloat16, which no `.npz` holds, is rounded.

    Raises:
        InputsMismatchError: see `check_feed`.
    """
    bfloat16 = np.dtype("bfloat16")
    found = {
        name: array.astype(bfloat16)
        if name in ports and ports[name].dtype == bfloat16 and array.dtype == np.float32
        else array
        for name, array in feed.items()
    }
    check_feed(found, ports)
    return found


def check_feed(feed: Mapping[str, Array], ports: Mapping[str, Port]) -> None:
    """Hold inputs against an engine's: names, dtypes, ranks, fixed extents.

    Raises:
        InputsMismatchError: one does not fit.
    """
    if set(feed) != set(ports):
        raise InputsMismatchError(
            f"the inputs are {', '.join(sorted(feed)) or 'none'}", f"the engine takes {', '.join(ports)}"
        )
    for name, port in ports.items():
        array = feed[name]
        fits = array.ndim == len(port.shape) and all(
            want in (-1, have) for have, want in zip(array.shape, port.shape, strict=True)
        )
        if not fits or array.dtype != port.dtype:
            raise InputsMismatchError(
                f"the input {name} is {array.dtype} {_told(array.shape)}",
                f"the engine takes {port.dtype} {_told(port.shape)}",
            )


def _shape(name: str, port: Port, record: EngineRecord | None) -> tuple[int, ...]:
    if record is not None and name in record.profile:
        return record.profile[name][1]
    if any(extent < 0 for extent in port.shape):
        raise InputsMissingError(
            f"the input {name} {_told(port.shape)} has dynamic dimensions, and the engine has no record beside it",
            "give inputs with --inputs FILE.npz, or put the record back",
        )
    return port.shape


def _draw(generator: np.random.Generator, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    if dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.standard_normal(shape, np.float32).astype(dtype)


def _told(shape: Sequence[int]) -> str:
    return f"[{', '.join('any' if extent < 0 else str(extent) for extent in shape)}]"
