"""What every pass is: one rewrite of an ONNX graph in place, with a precondition and a promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import onnx_ir as ir


class LoweringPass(ABC):
    """One step from the portable graph to TensorRT's.

    A pass states in its docstring what it needs, what holds after it, and whether it keeps the graph's
    meaning exactly or up to the order of rounding; `tests/passes` runs the reference evaluator on both sides
    of each.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, model: ir.Model) -> int:
        """Rewrite `model` in place and return how many places were changed."""
