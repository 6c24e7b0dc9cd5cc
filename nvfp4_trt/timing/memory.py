"""How much of a GPU's memory work takes at its peak."""

from __future__ import annotations

from nvfp4_trt.kernels.driver import cuda
from nvfp4_trt.kernels.gpu import call


class MemoryWatch:
    """The least memory that was free, against what was free when the watch began.

    The driver tells of the whole GPU: what other processes take meanwhile counts too. A context must be current.
    """

    def __init__(self) -> None:
        self._driver = cuda()
        self._first = self._least = self._free()

    def look(self) -> None:
        """Look at what is free now; between two looks nothing is seen."""
        self._least = min(self._least, self._free())

    @property
    def peak_bytes(self) -> int:
        """The largest amount that was seen taken since the beginning."""
        return self._first - self._least

    def _free(self) -> int:
        return int(call(self._driver, "cuMemGetInfo"))
