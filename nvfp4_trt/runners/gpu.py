"""Whether this machine's GPU can run an engine at all: asked before TensorRT is, in words that help."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nvfp4_trt.building.gpus import find_gpus
from nvfp4_trt.errors import EngineRunError, GpuMissingError, GpuUnsupportedError, Nvfp4Error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.building.gpus import Gpu

_ARCHITECTURE = re.compile(r"compute capability", re.IGNORECASE)
_VERSION = re.compile(r"version|magic tag|serialization", re.IGNORECASE)
_HOST_CODE = re.compile(r"host code", re.IGNORECASE)


def this_gpu(targets: Sequence[str] = (), what: str = "the engine was built for") -> Gpu:
    """Return the machine's first GPU, which has to be one of those that an engine was built for.

    Args:
        targets: architectures, `sm_120` and the like; none where they are not known.
        what: what they are, for the message.

    Raises:
        GpuMissingError: there is no driver, or it lists no GPU.
        GpuUnsupportedError: the GPU is of another architecture.
    """
    gpus = find_gpus()
    if not gpus.found:
        raise GpuMissingError(
            f"an engine runs on an NVIDIA GPU, and there is none here: {gpus.trouble}",
            "run this on the machine that has the GPU; nvfp4-trt doctor tells what is here",
        )
    gpu = gpus.found[0]
    if targets and gpu.architecture not in targets:
        raise GpuUnsupportedError(
            f"this machine's GPU, {gpu.name}, is {gpu.architecture}, and {what} {', '.join(targets)}",
            "FP4 engines run on Blackwell, sm_100, sm_103, sm_120 and sm_121: build again with its --target",
        )
    return gpu


def refusal(said: str, what: str) -> Nvfp4Error:
    """Return the error for what TensorRT said when it refused to load an engine.

    Args:
        said: its last error, in its own words; empty where it gave none.
        what: the engine and the backend, for the message.
    """
    words = " ".join(said.split()) or "it gives no reason"
    if _ARCHITECTURE.search(words):
        return GpuUnsupportedError(
            f"{what} does not run on this machine's GPU: {words}",
            "FP4 engines run on Blackwell: sm_100, sm_103, sm_120 and sm_121; nvfp4-trt doctor tells what is here",
        )
    if _HOST_CODE.search(words):
        return EngineRunError(
            f"{what} holds code for the host, which is not run unasked: {words}",
            "--allow-host-code, if you trust where the engine comes from",
        )
    if _VERSION.search(words):
        return EngineRunError(
            f"{what} cannot be loaded: {words}", "build the engine again with the TensorRT that is installed here"
        )
    return EngineRunError(f"{what} cannot be loaded: {words}", "check the GPU and its free memory with nvidia-smi")
