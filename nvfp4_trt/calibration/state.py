"""The state of an unfinished calibration: a safetensors file, so that an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nvfp4_trt.atomic import check_writable, output_file
from nvfp4_trt.errors import CalibrationInvalidError, CalibrationMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.loading import Batch

_VERSION = "1"
_KEY = "nvfp4.calibration_state"
_INTERVAL = 30.0
"""Seconds between two writes."""
_AGAIN = "delete it, or name another file with --state, to start from the first batch"


@dataclass
class Position:
    """How far a rank is in its batches.

    Attributes:
        batches: how many of them are in the totals.
        digest: SHA-256 over these, in their order.
    """

    batches: int = 0
    digest: str = ""

    def pass_by(self, batch: Batch) -> None:
        """Go behind one more batch."""
        self.batches += 1
        running = hashlib.sha256(self.digest.encode())
        for name, tensor in batch.items():
            running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self.digest = running.hexdigest()


class StateFile:
    """Keeps a calibration's statistics in a file.

    Args:
        path: the file; of several ranks, each has its own, `PATH.rank-R-of-N`.
        identity: what the calibration is of, and how; a state with another one is refused.
        rank: of `count`.
        count: of ranks.
    """

    def __init__(self, path: Path, identity: Mapping[str, str], rank: int, count: int) -> None:
        check_writable(path)
        self._path = path if count == 1 else path.with_name(f"{path.name}.rank-{rank}-of-{count}")
        self._identity = dict(identity) | {"ranks": f"{rank} of {count}"}
        self._written = time.monotonic()
        others = path.parent.glob(f"{path.name}.rank-*-of-*")
        for other in sorted([path, *others]):
            # Rank r of N has batches of its own: shared out otherwise, some would count twice.
            if other.exists() and not other.name.endswith(f"-of-{count}" if count > 1 else path.name):
                raise CalibrationMismatchError(
                    f"the state {other} is of another number of processes than {count}",
                    f"start as many as before, or {_AGAIN}",
                )

    def load(self, totals: dict[str, Statistics]) -> Position:
        """Put what the file has into `totals`, and return its position; the first, where there is no file.

        Raises:
            CalibrationInvalidError: it is no state, cut short, or of another version.
            CalibrationMismatchError: it is of another model, recipe, set of layers or ranks.
        """
        if not self._path.exists():
            return Position()
        try:
            with safe_open(self._path, framework="np") as file:
                said = json.loads((file.metadata() or {})[_KEY])
                self._check(said)
                for name, seen in totals.items():
                    _unpack(file, name, seen)
                    seen.largest = float(said["largest"][name])
                return Position(int(said["batches"]), str(said["digest"]))
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise CalibrationInvalidError(
                f"{self._path} is not the state of a calibration: {str(error) or type(error).__name__}", _AGAIN
            ) from error

    def behind(self, batches: Iterator[tuple[int, Batch]], position: Position) -> Iterator[tuple[int, Batch]]:
        """Return what follows `position`, once the batches before it have been seen to be the same.

        Raises:
            CalibrationMismatchError: they are others.
        """
        again = Position()
        while again.batches < position.batches:
            numbered = next(batches, None)
            if numbered is None:
                break
            again.pass_by(numbered[1])
        if again != position:
            raise CalibrationMismatchError(
                f"the first {position.batches} batches are not those that the state {self._path} was made of",
                f"give the same inputs in the same order, or {_AGAIN}",
            )
        return batches

    def save(self, totals: Mapping[str, Statistics], position: Position, *, now: bool = False) -> None:
        """Write the file, if that was long ago, or `now`; it is replaced as a whole."""
        if not now and time.monotonic() - self._written < _INTERVAL:
            return
        said = {
            "version": _VERSION,
            "identity": self._identity,
            "batches": position.batches,
            "digest": position.digest,
            "largest": {name: seen.largest for name, seen in totals.items()},
        }
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for name, seen in totals.items():
            packed = np.concatenate(seen.counts)
            places = np.flatnonzero(packed)
            arrays[f"{name}/places"], arrays[f"{name}/counts"] = places.astype(np.int32), packed[places]
        with output_file(self._path) as scratch:
            save_file(arrays, scratch, {_KEY: json.dumps(said)})
        self._written = time.monotonic()

    def _check(self, said: dict[str, object]) -> None:
        if said["version"] != _VERSION:
            raise CalibrationInvalidError(
                f"the state {self._path} is of version {said['version']}, and this is {_VERSION}", _AGAIN
            )
        theirs = said["identity"]
        if not isinstance(theirs, dict):
            raise TypeError("identity")
        for key, value in self._identity.items():
            if theirs.get(key) != value:
                raise CalibrationMismatchError(
                    f"the state {self._path} is of another {key}: {differing(theirs.get(key), value)}",
                    f"give what it was started with, or {_AGAIN}",
                )


def _unpack(file: Any, name: str, seen: Statistics) -> None:
    places, counts = file.get_tensor(f"{name}/places"), file.get_tensor(f"{name}/counts")
    whole = np.zeros(sum(len(each) for each in seen.counts), np.int64)
    if len(places) != len(counts) or (counts < 0).any():
        raise ValueError(f"the counts of {name}")
    whole[places] = counts
    seen.put(whole)


def differing(theirs: object, mine: object, most: int = 60) -> str:
    """Return two texts, from shortly before they differ, as an error message says them."""
    both = [str(theirs), str(mine)]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(*both, strict=False))
    start = sum(1 for _pair in same) - most // 3
    if start > 0:
        both = ["…" + text[start:] for text in both]
    return ", not ".join(text if len(text) <= most else text[: most - 1] + "…" for text in both)
