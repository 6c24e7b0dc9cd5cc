"""Budgets: what a mixture of precisions has to come to, as `--budget` says it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import InputSpecError, MetricFailedError
from nvfp4_trt.loading.factories import current_directory_importable, find_callable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from nvfp4_trt.mixing.reference import Reference

    Metric = Callable[[nn.Module], Any]

_NUMBER = r"(?P<limit>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_SQNR = re.compile(rf"sqnr\s*(?:=|>=)\s*{_NUMBER}$")
_METRIC = re.compile(rf"metric:(?P<function>[^<>=]+?)\s*(?P<sign>>=|<=)\s*{_NUMBER}(?P<percent>%?)$")
_HINT = (
    "give sqnr=DB, or metric:MODULE:FUNCTION>=VALUE; VALUE% is a share of what the function returns for the "
    "float model, and <= is for metrics that fall as the model gets better"
)


@dataclass(frozen=True)
class Budget:
    """A least SQNR, or a bound on what a function of the user returns.

    Attributes:
        text: as it was given.
        limit: in dB, in the function's own unit, or a ratio.
        metric: called with a module in evaluation mode, without gradients; None where the budget is an SQNR.
        least: whether values from `limit` up meet it; else values down from it.
        relative: whether the value is a ratio to what the function returns for the float model.
    """

    text: str
    limit: float
    metric: Metric | None = None
    least: bool = True
    relative: bool = False

    def value(self, module: nn.Module, reference: Reference, float_value: float) -> float:
        """Return what a model comes to, in the unit of `limit`.

        Args:
            module: a mixture of precisions.
            reference: the float model's outputs.
            float_value: see `of_float`.
        """
        if self.metric is None:
            return reference.sqnr_db(module)
        value = self._called(module)
        return value / float_value if self.relative else value

    def of_float(self, module: nn.Module) -> float:
        """Return what the function returns for the float model, 1.0 where there is none.

        Raises:
            MetricFailedError: it raised, it is no number, or a ratio to it says nothing.
        """
        if self.metric is None:
            return 1.0
        value = self._called(module)
        if not math.isfinite(value) or (self.relative and value <= 0):
            wanted = "a number above zero" if self.relative else "a number"
            raise MetricFailedError(
                f"--budget {self.text}: for the float model the function returned {value}, not {wanted}",
                "check the function on the float model first",
            )
        return value

    def meets(self, value: float) -> bool:
        """Return whether a value is within the budget; NaN is not."""
        return value >= self.limit if self.least else value <= self.limit

    def better(self, one: float, other: float) -> bool:
        """Return whether `one` is nearer to meeting the budget; anything is nearer than NaN."""
        if math.isnan(one) or math.isnan(other):
            return math.isnan(other) and not math.isnan(one)
        return one > other if self.least else one < other

    def shown(self, value: float) -> str:
        """Return a value with its unit."""
        if self.metric is None:
            return f"{value:.2f} dB"
        return f"{value:.2%} of the float model's" if self.relative else f"{value:.6g}"

    def _called(self, module: nn.Module) -> float:
        if self.metric is None:
            raise ValueError("an SQNR has no function")
        try:
            with torch.no_grad(), current_directory_importable():
                returned = self.metric(module)
            return float(returned)
        except Exception as error:  # the user's own code runs
            raise MetricFailedError(
                f"--budget {self.text}: the function raised {first_line(error)}",
                "it is called with the module, and returns one number",
            ) from error


def parse_budget(text: str) -> Budget:
    """Parse `sqnr=18`, `metric:module:function>=0.87`, `metric:module:function>=99%`, or these with `<=`.

    Raises:
        InputSpecError: it follows none of these.
        FactoryImportError: the function cannot be imported.
    """
    sqnr = _SQNR.match(text.strip())
    if sqnr is not None:
        return Budget(text, float(sqnr["limit"]))
    match = _METRIC.match(text.strip())
    if match is None:
        raise InputSpecError(f"--budget {text!r} is no budget", _HINT)
    with current_directory_importable():
        function = find_callable(match["function"], option="--budget")
    relative = bool(match["percent"])
    limit = float(match["limit"]) / (100 if relative else 1)
    return Budget(text, limit, function, least=match["sign"] == ">=", relative=relative)
