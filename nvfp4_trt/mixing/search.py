"""The fewest layers to keep: by damage until the budget is met, and then back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.errors import BudgetUnmetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvfp4_trt.mixing.budget import Budget


class Kept(NamedTuple):
    """Layers to keep in higher precision."""

    names: tuple[str, ...]
    """The most damaging first."""
    tried: int


def fewest_kept(order: Sequence[str], budget: Budget, evaluate: Callable[[Sequence[str]], float]) -> Kept:
    """Find a small set of layers that, kept in higher precision, lets the others be FP4 within the budget.

    The shortest run of the most damaging layers that meets the budget is found by bisection. Then each of them,
    the least damaging first, is let go where the budget is still met without it. The same input always gives the
    same set; it is not proven to be the smallest there is.

    Args:
        order: all layers that may be kept, the most damaging first.
        budget: to meet.
        evaluate: returns, in the budget's unit, what the model comes to with these layers kept.

    Raises:
        BudgetUnmetError: it is not met with all of them kept.
    """
    search = _Search(budget, evaluate)
    if not search.meets(order):
        search.meets(())
        raise unmet(budget, search.best, len(order))
    least, most = 0, len(order)
    while least < most:
        middle = (least + most) // 2
        if search.meets(order[:middle]):
            most = middle
        else:
            least = middle + 1
    kept = list(order[:most])
    for name in reversed(order[:most]):
        without = [each for each in kept if each != name]
        if search.meets(without):
            kept = without
    return Kept(tuple(kept), search.tried)


def unmet(budget: Budget, best: float, layers: int) -> BudgetUnmetError:
    """Return the error that says how close a search came."""
    return BudgetUnmetError(
        f"--budget {budget.text} cannot be met: with all {layers} layers that may be kept in higher precision, "
        f"the best was {budget.shown(best)}",
        "lower the budget, keep layers in the model's own dtype with --keep model, or try another recipe with "
        "--recipe",
    )


class _Search:
    """Evaluates each set of layers once."""

    def __init__(self, budget: Budget, evaluate: Callable[[Sequence[str]], float]) -> None:
        self._budget, self._evaluate = budget, evaluate
        self._known: dict[tuple[str, ...], float] = {}
        self.best = math.nan

    @property
    def tried(self) -> int:
        return len(self._known)

    def meets(self, kept: Sequence[str]) -> bool:
        key = tuple(kept)
        if key not in self._known:
            value = self._known[key] = self._evaluate(key)
            if self._budget.better(value, self.best):
                self.best = value
        return self._budget.meets(self._known[key])
