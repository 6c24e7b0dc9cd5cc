"""What a plugin has of a GPU while an engine runs: its memory, its kernel, its launch."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import KernelLaunchError
from nvfp4_trt.kernels.driver import Library, cuda, device_limits
from nvfp4_trt.kernels.launch import STATE_BYTES
from nvfp4_trt.plugin.fields import GemmFields
from nvfp4_trt.plugin.plans import GemmPlan, QuantizePlan, plan_gemm, plan_quantize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.kernels import KernelFile, Pack
    from nvfp4_trt.kernels.driver import Kernel
    from nvfp4_trt.plugin.fields import Fields
    from nvfp4_trt.plugin.shapes import Shape


def current_device() -> int:
    """Return the ordinal of the device of the calling thread's CUDA context.

    Raises:
        KernelLaunchError: the thread has no context.
        DependencyMissingError: there is no CUDA driver, or no cuda-bindings.
    """
    status, device = cuda().cuCtxGetDevice()
    _check(status, "no CUDA context is current")
    return int(device)


class State:
    """The kernels' memory between launches: 65,536 bytes of the current device, zeroed.

    It belongs to the launches of one stream, and so to one execution context.
    """

    def __init__(self) -> None:
        driver = cuda()
        status, address = driver.cuMemAlloc(STATE_BYTES)
        _check(status, f"{STATE_BYTES} bytes of device memory")
        self.address = int(address)
        (status,) = driver.cuMemsetD8(self.address, 0, STATE_BYTES)
        _check(status, "zeroing the state memory")
        # The stream of the engine need not wait for the default stream, on which the zeros are written.
        (status,) = driver.cuCtxSynchronize()
        _check(status, "zeroing the state memory")

    def close(self) -> None:
        """Free it."""
        if self.address:
            cuda().cuMemFree(self.address)
            self.address = 0


class Running:
    """One plugin node in one execution context.

    Args:
        pack: where its kernel comes from.
        fields: the node's attributes.

    Raises:
        KernelLaunchError: no CUDA context is current, or no memory is left.
    """

    def __init__(self, pack: Pack, fields: Fields) -> None:
        self._pack, self._fields = pack, fields
        self._ordinal = current_device()
        self._state = State()
        self._plan: QuantizePlan | GemmPlan | None = None
        self._kernel: Kernel | None = None

    def prepare(self, inputs: Sequence[Shape], dtype: str) -> None:
        """Plan for shapes, and load the kernel where it is not loaded yet.

        Args:
            inputs: shapes of the inputs, all known.
            dtype: of the first input.

        Raises:
            PluginNodeError: shapes do not fit.
            KernelMissingError, FileTruncatedError: the pack lacks the kernel.
        """
        sm, device = device_limits(self._ordinal)
        if isinstance(self._fields, GemmFields):
            gemm = plan_gemm(self._pack, self._fields, inputs, sm)
            self._plan, entry = gemm, gemm.file.entries[0].name
        else:
            plan = plan_quantize(self._pack, self._fields, inputs, dtype, sm, device)
            self._plan, entry = plan, plan.launch.entry
        self._kernel = _library(self._pack, self._plan.file).kernel(entry, self._ordinal)

    def enqueue(self, inputs: Sequence[int], outputs: Sequence[int], workspace: int, stream: int) -> None:
        """Launch the kernel. Nothing is allocated and nothing waits, so that a stream can be captured.

        Args:
            inputs: device addresses.
            outputs: device addresses.
            workspace: device address of memory of the size that the plugin declared.
            stream: the stream's handle.

        Raises:
            PluginNodeError: an address is not aligned.
            KernelLaunchError: shapes were never given, or the driver refuses the launch.
        """
        addresses = (*inputs, *outputs)
        if self._kernel is None or self._plan is None:
            raise KernelLaunchError("a plugin is run before its shapes are known", "this is a defect: report it")
        if isinstance(self._plan, GemmPlan):
            plan = self._plan
            found = plan.arguments(addresses, self._state.address, workspace)
            pointers = [ctypes.c_void_p(address) for address in found]
            numbers = [ctypes.c_int32(number) for number in plan.numbers]
            scratch = [ctypes.c_void_p(address) for address in plan.scratch(workspace)]
            self._kernel.launch(plan.grid, plan.block, plan.shared_bytes, stream, [*pointers, *numbers, *scratch])
            return
        launch = self._plan.launch
        args = self._plan.arguments(addresses, self._state.address)
        self._kernel.launch(
            (launch.grid, 1, 1), launch.block, launch.shared_bytes, stream, [args], cooperative=launch.cooperative
        )

    def close(self) -> None:
        """Free what it has of the device."""
        self._state.close()
        self._kernel = self._plan = None


_libraries: dict[str, Library] = {}


def _library(pack: Pack, file: KernelFile) -> Library:
    """Return a loaded cubin: once in a process, for all contexts and nodes."""
    if file.sha256 not in _libraries:
        _libraries[file.sha256] = Library(pack.read(file), file.file)
    return _libraries[file.sha256]


def _check(status: Any, what: str) -> None:
    if status:
        _, name = cuda().cuGetErrorName(status)
        raise KernelLaunchError(f"{what}: the CUDA driver says {name.decode()}", "check the GPU with nvidia-smi")
