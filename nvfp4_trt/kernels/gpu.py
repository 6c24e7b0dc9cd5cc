"""GPU memory and a stream, from the CUDA driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nvfp4_trt.errors import EngineRunError
from nvfp4_trt.kernels.driver import cuda

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    Array = NDArray[np.generic]


class Device:
    """The machine's first GPU: its primary context (the one that TensorRT and torch use), and a stream in it.

    Raises:
        DependencyMissingError: cuda-bindings is not installed, or there is no CUDA driver.
        EngineRunError: the driver refuses.
    """

    def __init__(self) -> None:
        self._driver = cuda()
        self._ordinal = self._call("cuDeviceGet", 0)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._ordinal)
        self.enter()
        self._stream = self._call("cuStreamCreate", 0)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def enter(self) -> None:
        """Make the context current in the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> Any:
        """Return an allocation of `size` bytes."""
        return self._call("cuMemAlloc", size)

    def free(self, memory: Any) -> None:
        """Give an allocation back."""
        self._call("cuMemFree", memory)

    def upload(self, memory: Any, array: Array) -> None:
        """Copy a contiguous array to the GPU, in the stream's order."""
        self._call("cuMemcpyHtoDAsync", memory, array.ctypes.data, array.nbytes, self._stream)

    def download(self, memory: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Copy an array from the GPU, in the stream's order; it is there after `wait`."""
        array: Array = np.empty(tuple(shape), dtype)
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, memory, array.nbytes, self._stream)
        return array

    def wait(self) -> None:
        """Wait for everything in the stream."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give the stream and the context back."""
        self._call("cuStreamDestroy", self._stream)
        self._call("cuDevicePrimaryCtxRelease", self._ordinal)

    def _call(self, name: str, *arguments: Any) -> Any:
        return call(self._driver, name, *arguments)


class Buffer:
    """An allocation that grows to what is asked of it, and does not shrink."""

    def __init__(self, device: Device) -> None:
        self._device, self._memory, self._size = device, None, 0

    def at_least(self, size: int) -> Any:
        """Return an allocation of `size` bytes or more; what was in it is lost where it grows."""
        if self._memory is None or self._size < size:
            self.free()
            self._memory, self._size = self._device.allocate(size), size
        return self._memory

    def free(self) -> None:
        """Give the allocation back."""
        if self._memory is not None:
            self._device.free(self._memory)
            self._memory, self._size = None, 0


def call(driver: ModuleType, name: str, *arguments: Any) -> Any:
    """Call the driver, and return its result where it has one.

    Raises:
        EngineRunError: it refuses; the message has its reason.
    """
    status, *results = getattr(driver, name)(*arguments)
    if status:
        _, told = driver.cuGetErrorName(status)
        raise EngineRunError(
            f"{name}: the CUDA driver says {told.decode() if told else status}",
            "check the GPU and its free memory with nvidia-smi",
        )
    return results[0] if results else None
