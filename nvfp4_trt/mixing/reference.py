"""The float model's outputs on all batches, and how far another form of the model is from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.comparison.result import SQNR_LIMIT
from nvfp4_trt.errors import BelowThresholdError
from nvfp4_trt.loading import check_runs, flatten_outputs
from nvfp4_trt.runners import as_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from nvfp4_trt.loading import Batch


class Reference:
    """Holds every output of the float model, in memory, in its own dtype.

    Args:
        module: the float model, in evaluation mode.
        batches: on its device, by the names of the forward's parameters.

    Raises:
        InputsMismatchError, ModelRunError: the model raised on a batch.
        BelowThresholdError: an output holds NaN.
    """

    def __init__(self, module: nn.Module, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self._outputs = [_outputs(module, batch) for batch in batches]
        self.signal = dict.fromkeys(self._outputs[0], 0.0)
        """Of each output, the sum of squares over all batches."""
        for outputs in self._outputs:
            for name, array in outputs.items():
                self.signal[name] += float((array.astype("float64") ** 2).sum())
        broken = [name for name, power in self.signal.items() if math.isnan(power)]
        if broken:
            raise BelowThresholdError(
                f"the float model's own output {broken[0]} holds NaN",
                "run the model by itself on these inputs, and try others",
            )

    def sqnr_db(self, module: nn.Module) -> float:
        """Return the lowest of the outputs' SQNR in dB, each over all batches; -300 where one holds NaN."""
        sums = {name: Accumulator(name) for name in self.signal}
        for batch, expected in zip(self.batches, self._outputs, strict=True):
            got = _outputs(module, batch)
            for name, array in expected.items():
                sums[name].add(array, got[name])
        found = [each.metrics().sqnr_db for each in sums.values()]
        return min(-SQNR_LIMIT if math.isnan(value) else value for value in found)


def _outputs(module: nn.Module, batch: Batch) -> dict[str, NDArray[np.generic]]:
    return {name: as_numpy(tensor) for name, tensor in flatten_outputs(check_runs(module, batch)).items()}
