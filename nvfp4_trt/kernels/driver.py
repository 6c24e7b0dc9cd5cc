"""Loading cubins and launching kernels with the CUDA driver, on whatever context is current."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import DependencyMissingError, KernelLaunchError, KernelMissingError
from nvfp4_trt.kernels.launch import Device

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


@cache
def cuda() -> ModuleType:
    """Return `cuda.bindings.driver`, initialized.

    Raises:
        DependencyMissingError: cuda-bindings is not installed, or there is no CUDA driver.
    """
    try:
        from cuda.bindings import driver

        (status,) = driver.cuInit(0)
    except (ImportError, RuntimeError) as error:
        raise DependencyMissingError(
            f"the CUDA kernels need cuda-bindings and an NVIDIA driver ({error})",
            'pip install "nvfp4-trt[cuda]" on a machine with an NVIDIA GPU',
        ) from error
    _check(driver, status, "the CUDA driver could not be initialized")
    module: ModuleType = driver
    return module


@cache
def device_limits(ordinal: int) -> tuple[int, Device]:
    """Return the architecture of a GPU, as 90 or 120, and what launch rules need to know of it."""
    driver = cuda()
    names = driver.CUdevice_attribute
    prefix = "CU_DEVICE_ATTRIBUTE_"

    def attribute(name: str) -> int:
        status, value = driver.cuDeviceGetAttribute(getattr(names, prefix + name), ordinal)
        _check(driver, status, f"device {ordinal} has no {name}")
        return int(value)

    sm = attribute("COMPUTE_CAPABILITY_MAJOR") * 10 + attribute("COMPUTE_CAPABILITY_MINOR")
    shared = attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
    return sm, Device(attribute("MULTIPROCESSOR_COUNT"), shared)


class Kernel:
    """One entry point, ready to be launched.

    Args:
        handle: the driver's handle, an integer.
        name: for messages.
    """

    def __init__(self, handle: Any, name: str) -> None:
        self._handle, self.name = handle, name

    def launch(
        self,
        grid: tuple[int, int, int],
        block: int,
        shared_bytes: int,
        stream: int,
        parameters: Sequence[Any],
        *,
        cooperative: bool = False,
    ) -> None:
        """Launch; nothing waits for it.

        Args:
            grid: blocks in x, y and z.
            block: threads of a block, in x.
            shared_bytes: dynamic shared memory of a block.
            stream: the stream's handle; 0 for the default one.
            parameters: ctypes values, in the kernel's order.
            cooperative: whether all blocks must run at once.

        Raises:
            KernelLaunchError: the driver refuses the launch.
        """
        driver = cuda()
        addresses = (ctypes.c_void_p * len(parameters))(*map(ctypes.addressof, parameters))
        pointer = ctypes.addressof(addresses)
        if cooperative:
            call = driver.cuLaunchCooperativeKernel
            (status,) = call(self._handle, *grid, block, 1, 1, shared_bytes, stream, pointer)
        else:
            call = driver.cuLaunchKernel
            (status,) = call(self._handle, *grid, block, 1, 1, shared_bytes, stream, pointer, 0)
        if status:
            _check(
                driver, status, f"{self.name}: {grid} blocks of {block} threads, {shared_bytes} B of shared memory"
            )


class Library:
    """A cubin that is loaded, usable in every context.

    Args:
        cubin: its bytes.
        name: for messages.

    Raises:
        KernelLaunchError: the driver refuses the cubin.
    """

    def __init__(self, cubin: bytes, name: str) -> None:
        driver = cuda()
        status, self._library = driver.cuLibraryLoadData(cubin, [], [], 0, [], [], 0)
        _check(driver, status, f"{name} could not be loaded")
        self.name = name
        self._kernels: dict[tuple[str, int], Kernel] = {}

    def kernel(self, entry: str, ordinal: int) -> Kernel:
        """Return an entry point, allowed all the dynamic shared memory that a block can have on that device.

        Raises:
            KernelMissingError: the cubin has no such entry.
            KernelLaunchError: the driver cannot make it ready.
        """
        found = self._kernels.get((entry, ordinal))
        if found is not None:
            return found
        driver = cuda()
        status, kernel = driver.cuLibraryGetKernel(self._library, entry.encode())
        if status:
            raise KernelMissingError(
                f"{self.name} has no kernel {entry}", "make the pack again: nvfp4-trt build plugin"
            )
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        shared_bytes = device_limits(ordinal)[1].shared_bytes
        (status,) = driver.cuKernelSetAttribute(attribute, shared_bytes, kernel, ordinal)
        _check(driver, status, f"{entry} cannot have {shared_bytes} B of shared memory")
        status, function = driver.cuKernelGetFunction(kernel)
        _check(driver, status, f"{entry} cannot be launched")
        return self._kernels.setdefault((entry, ordinal), Kernel(function, entry))


def _check(driver: ModuleType, status: Any, what: str) -> None:
    if not status:
        return
    _, name = driver.cuGetErrorName(status)
    raise KernelLaunchError(
        f"{what}: the CUDA driver says {name.decode() if name else status}",
        "check the GPU and its driver with nvidia-smi; a pack is made with: nvfp4-trt build plugin",
    )
