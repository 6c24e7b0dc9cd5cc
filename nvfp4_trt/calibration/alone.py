"""A calibration in one process: what `ranks.Together` does for several, where there is only one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.loading import Batch


@dataclass
class Alone:
    """The place of a process: `rank` of `count`."""

    rank: int = 0
    count: int = 1

    def share(self, batches: Iterable[Batch], *, sharded: bool) -> Iterator[tuple[int, Batch]]:
        """Yield this rank's batches with their numbers, which start at 1.

        Args:
            batches: those of all ranks: batch i, counted from 0, is for rank `i mod count`. If `sharded`, this
                rank's own.
            sharded: whether each rank was given its own batches.
        """
        for i, batch in enumerate(batches):
            if sharded or i % self.count == self.rank:
                yield i + 1, batch

    def agree(self, identity: Mapping[str, str]) -> None:
        """Make sure that all ranks calibrate the same: one does."""

    def check(self) -> None:
        """Look whether all other ranks are well."""

    def reduce(self, totals: dict[str, Statistics], batches: int) -> int:  # noqa: ARG002 (see `Together`)
        """Turn each layer's statistics into those of all ranks; return how many batches these ran together."""
        return batches
