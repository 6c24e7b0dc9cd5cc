"""CUDA C++ to a cubin through NVRTC, on any machine: neither a driver nor a GPU is needed."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import DependencyMissingError, KernelCompileError
from nvfp4_trt.kernels.sources import target_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

_LOG_LINES = 12

_OPTIONS = (
    "--std=c++17",
    # What is rounded once or twice is the source's to say: fused operations are written as intrinsics.
    "--fmad=false",
    # Headers come from memory alone, so that a build finds the same ones in any folder.
    "--no-source-include",
)


def compile_cuda(
    source: str, name: str, headers: Mapping[str, str], sm: int, defines: Mapping[str, int | str]
) -> bytes:
    """Compile one CUDA C++ source.

    Args:
        source: the text.
        name: how the compiler's messages call it, for example `quantize.cu`.
        headers: the text of each header, by the name that `#include` gives; there are no others.
        sm: the GPU architecture, for example 120.
        defines: macros and their values.

    Returns:
        The cubin, without line information: it depends on the arguments and the compiler alone.

    Raises:
        KernelCompileError: the source does not compile; the message ends with the log's first lines.
        DependencyMissingError: NVRTC or its bindings are not installed.
    """
    nvrtc = _load()
    status, program = nvrtc.nvrtcCreateProgram(
        source.encode(),
        name.encode(),
        len(headers),
        [text.encode() for text in headers.values()],
        [header.encode() for header in headers],
    )
    _check(nvrtc, status, name)
    options = [
        f"--gpu-architecture={target_name(sm)}",
        *_OPTIONS,
        *(f"--define-macro={key}={value}" for key, value in defines.items()),
    ]
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status == nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION:
            raise KernelCompileError(
                f"{name} does not compile for {target_name(sm)}:\n{_log(nvrtc, program)}",
                "mend the source, or install the compiler that this version was tested with (constraints.txt)",
            )
        _check(nvrtc, status, f"{name} for {target_name(sm)}")
        return _bytes(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def nvrtc_version() -> str:
    """Return the version of the installed NVRTC.

    Raises:
        DependencyMissingError: it is not installed.
    """
    _, major, minor = _load().nvrtcVersion()
    try:
        return importlib.metadata.version("nvidia-cuda-nvrtc")
    except importlib.metadata.PackageNotFoundError:  # a CUDA toolkit's own
        return f"{major}.{minor}"


def _load() -> ModuleType:
    hint = "pip install 'nvfp4-trt[kernels]'"
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise DependencyMissingError("cuda-bindings is not installed: it calls NVIDIA's compiler", hint) from error
    try:
        nvrtc.nvrtcVersion()
    except (RuntimeError, OSError) as error:  # the bindings look for the library at the first call
        raise DependencyMissingError("NVRTC, the compiler of CUDA C++, is not installed", hint) from error
    return nvrtc  # type: ignore[no-any-return]


def _check(nvrtc: Any, status: Any, what: str) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise KernelCompileError(
            f"NVRTC {nvrtc_version()} cannot compile {what}: {status.name}",
            "install the compiler that this version was tested with (constraints.txt)",
        )


def _log(nvrtc: Any, program: Any) -> str:
    text = _bytes(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).rstrip(b"\0")
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[:_LOG_LINES])


def _bytes(program: Any, size_of: Any, copy_to: Any) -> bytes:
    _, size = size_of(program)
    buffer = bytes(size)  # a new object, which the bindings write into
    copy_to(program, buffer)
    return buffer
