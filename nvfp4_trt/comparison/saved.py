"""Inputs and outputs in Polygraphy's own JSON formats, which its command line reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polygraphy.comparator import RunResults
from polygraphy.json import load_json, save_json

from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import FileMissingError, WrongKindError
from nvfp4_trt.runners import quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polygraphy.comparator import IterationResult

    from nvfp4_trt.runners.arrays import Feed


def write_feeds(feeds: Sequence[Feed], path: Path) -> None:
    """Write inputs for `polygraphy run --load-inputs`: a list with a dictionary of arrays for each call.

    Raises:
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    with output_file(path) as scratch, quiet():
        save_json([dict(feed) for feed in feeds], str(scratch))


def read_feeds(path: Path) -> list[Feed]:
    """Read what `write_feeds` or `polygraphy run --save-inputs` wrote to a file.

    Raises:
        FileMissingError: there is no such file.
        WrongKindError: it is not such a list.
    """
    feeds = _load(path, "inputs")
    if not isinstance(feeds, list) or not feeds or not all(_holds_arrays(feed) for feed in feeds):
        raise WrongKindError(f"{path} holds no list of inputs", _HOW["inputs"])
    return [dict(feed) for feed in feeds]


def write_outputs(name: str, outputs: Sequence[IterationResult], path: Path) -> None:
    """Write one runner's outputs for `polygraphy run --load-outputs`.

    Raises:
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    results = RunResults()
    results.append((name, list(outputs)))
    with output_file(path) as scratch, quiet():
        results.save(str(scratch))


def read_outputs(path: Path) -> tuple[str, list[IterationResult]]:
    """Read what `write_outputs` or `polygraphy run --save-outputs` wrote to a file.

    Returns:
        The name of the runner that made them, and the outputs of each call.

    Raises:
        FileMissingError: there is no such file.
        WrongKindError: it holds no results, or those of several runners.
    """
    results = _load(path, "outputs")
    runners = list(results.items()) if isinstance(results, RunResults) else []
    if len(runners) != 1 or not runners[0][1]:
        raise WrongKindError(f"{path} holds the outputs of {len(runners)} runners, not of one", _HOW["outputs"])
    name, outputs = runners[0]
    return str(name), list(outputs)


_HOW = {
    "inputs": "write them with `nvfp4-trt compare --save-inputs` or `polygraphy run --save-inputs i.json`",
    "outputs": "write them with `nvfp4-trt compare --save-outputs` or `polygraphy run --save-outputs o.json`",
}


def _load(path: Path, what: str) -> Any:
    if not path.is_file():
        raise FileMissingError(f"the {what} {path} do not exist", _HOW[what])
    with quiet():
        try:
            return load_json(str(path))
        except Exception as error:
            raise WrongKindError(f"{path} is not Polygraphy's JSON for {what}", _HOW[what]) from error


def _holds_arrays(feed: object) -> bool:
    arrays: Mapping[str, Any] | None = feed if isinstance(feed, dict) else None
    return arrays is not None and all(hasattr(array, "shape") for array in arrays.values())
