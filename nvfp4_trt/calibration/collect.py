"""From batches to statistics: run, count, keep the state, and join what several processes saw."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nvfp4_trt.calibration.running import check_seen, run_batches
from nvfp4_trt.calibration.state import Position
from nvfp4_trt.calibration.statistics import Statistics
from nvfp4_trt.errors import NonfiniteCalibrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from nvfp4_trt.calibration.alone import Alone
    from nvfp4_trt.calibration.state import StateFile
    from nvfp4_trt.loading import Batch


def collect(
    module: nn.Module,
    names: Sequence[str],
    batches: Iterable[Batch],
    wanted: frozenset[str],
    *,
    ranks: Alone,
    sharded: bool = False,
    state: StateFile | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Statistics]:
    """Run this rank's batches and return the statistics of all ranks, by layer.

    Args:
        module: unquantized, in evaluation mode.
        names: qualified names of layers that take their activation as first argument.
        batches: inputs by the names of the forward's parameters; of all ranks, or of this one if `sharded`.
        wanted: optional fields of `Statistics`.
        ranks: this process's place.
        sharded: whether `batches` are this rank's own.
        state: where the statistics are kept meanwhile.
        progress: called with the number of batches that this rank has run.

    Raises:
        InputsMissingError: there was no batch, or a layer never ran.
        InputsMismatchError, ModelRunError: the module raised on a batch.
        NonfiniteCalibrationError: NaN or infinity entered a layer; names the layer and the batch.
        CalibrationInvalidError, CalibrationMismatchError: see `StateFile`.
        RankFailedError: another rank died or failed.
    """
    totals = {name: Statistics.empty(wanted) for name in names}
    position = Position() if state is None else state.load(totals)
    numbered = ranks.share(batches, sharded=sharded)
    if state is not None:
        numbered = state.behind(numbered, position)
    fresh: dict[str, Statistics] = {}
    current: list[tuple[int, Batch]] = []

    def feed() -> Iterator[Batch]:
        for number, batch in numbered:
            current[:] = [(number, batch)]
            yield batch

    def visit(name: str, entering: Tensor) -> None:
        fresh.setdefault(name, Statistics.empty(wanted)).add(entering)

    def after() -> None:
        # A batch counts as a whole or not at all, so that a state is never of half of one.
        ((number, batch),) = current
        _check_finite(fresh, number)
        for name, seen in fresh.items():
            totals[name].merge(seen)
        fresh.clear()
        if state is None:
            position.batches += 1
        else:
            position.pass_by(batch)
            state.save(totals, position)
        if progress is not None:
            progress(position.batches)
        ranks.check()

    try:
        run_batches(module, names, feed(), visit, after=after)
    finally:
        if state is not None and position.batches:
            state.save(totals, position, now=True)
    counted = ranks.reduce(totals, position.batches)
    check_seen(names, [name for name, seen in totals.items() if seen.blocks.any()], counted)
    return totals


def _check_finite(fresh: dict[str, Statistics], number: int) -> None:
    for name, seen in fresh.items():  # in the order in which they ran
        if not seen.largest < math.inf:  # True for NaN as well
            raise NonfiniteCalibrationError.entering(name, number)
