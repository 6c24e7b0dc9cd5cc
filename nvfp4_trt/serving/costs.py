"""What a run of each engine of a set costs, modelled on one GPU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nvfp4_trt.costing import cost_engine, shapes_at
from nvfp4_trt.passes import PLAIN, lower
from nvfp4_trt.portable import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from nvfp4_trt.auditing import Row
    from nvfp4_trt.auditing.record import Operand
    from nvfp4_trt.costing import GPU, EngineCost
    from nvfp4_trt.passes import Form
    from nvfp4_trt.serving.manifest import Tensor

_MARK = re.compile(r" \[profile \d+\]")


class Costs:
    """Costs layer records of one model, see `nvfp4_trt.costing.cost_engine`.

    Args:
        source: the portable file.
        inputs: its inputs.
        gpu: the GPU that times are modelled on.
    """

    def __init__(self, source: Path, inputs: Sequence[Tensor], gpu: GPU) -> None:
        self._source, self._inputs, self.gpu = source, inputs, gpu
        self._lowered: dict[Form, ir.Model] = {}

    def of(self, rows: Sequence[Row], extents: Mapping[str, int], form: Form = PLAIN) -> EngineCost:
        """Return what one run costs.

        Args:
            rows: the layer record of one profile.
            extents: of every dynamic dimension.
            form: that the model was lowered to.
        """
        if form not in self._lowered:  # the record names the lowered file's tensors
            self._lowered[form], _ = load(self._source)
            lower(self._lowered[form], form=form)
        shapes = shapes_at(self._lowered[form], {tensor.name: tensor.shape_at(extents) for tensor in self._inputs})
        return cost_engine([_unmarked(row) for row in rows], self.gpu, shapes)


def _unmarked(row: Row) -> Row:
    """Return a row without the mark of its profile in the names of tensors, which the lowered file has without."""

    def clean(operands: Sequence[Operand]) -> tuple[Operand, ...]:
        return tuple(o.model_copy(update={"name": _MARK.sub("", o.name)}) for o in operands)

    parts = {"inputs": row.inputs, "constants": row.constants, "outputs": row.outputs}
    return row.model_copy(update={name: clean(operands) for name, operands in parts.items()})
