"""The GEMM, written in Triton, to cubins for any GPU: neither a driver nor a GPU is needed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from nvfp4_trt.errors import DependencyMissingError, KernelCompileError
from nvfp4_trt.kernels.pack import GemmTile
from nvfp4_trt.kernels.sources import target_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

SCRATCH = ("global_scratch", "profile_scratch")
"""Two pointers that Triton adds to every kernel's parameters.

The first is to `GemmTile.scratch_bytes` for each program, null where they are 0; the second is null.
"""
SCRATCH_ALIGNMENT = 128
"""Bytes: what the launchers align the first to. A descriptor for TMA needs 64; Triton asks for this."""

_WARP = 32
_FIRST_LINES, _LAST_LINES = 4, 8
_TESTED = "mend the source, or install the compiler that this version was tested with (constraints.txt)"


class CompiledGemm(NamedTuple):
    """A GEMM for one tile, output dtype and architecture."""

    cubin: bytes
    tile: GemmTile
    params: tuple[str, ...]
    """The kernel's parameters, in order, Triton's own two at the end."""


def tile_names(source: Path) -> tuple[str, ...]:
    """Return the tiles that a GEMM source has, as `128x128x256`, in its order.

    Raises:
        DependencyMissingError: Triton is not installed.
    """
    return tuple(_import(source).TILES)


def compile_gemm(source: Path, tile: str, dtype: str, sm: int, *, like: int | None = None) -> CompiledGemm:
    """Compile `gemm_kernel` of a Triton source.

    Args:
        source: the file; it says its tiles, and for each the signature and compile-time arguments.
        tile: one of its tiles.
        dtype: of the output: `f16`, `bf16` or `f32`.
        sm: the GPU architecture, for example 120.
        like: take the form that the source has for another architecture, to test it on this one.

    Returns:
        The cubin, without line information: it depends on the arguments and the compiler alone.

    Raises:
        KernelCompileError: it does not compile; or it would need memory that nobody gives it.
        DependencyMissingError: Triton is not installed.
    """
    module = _import(source)
    shape = module.variant(tile, sm if like is None else like)
    signature = module.signature(dtype)
    what = f"{source.name} with the tile {tile}, {dtype} out,"
    try:
        with _own_cache():
            compiled = _compile(module, shape, signature, sm)
    except Exception as error:  # the compiler's passes fail with whatever they like
        raise KernelCompileError(
            f"{what} does not compile for {target_name(sm)}: {type(error).__name__}: {_shortened(str(error))}",
            _TESTED,
        ) from error
    metadata = compiled.metadata
    if metadata.profile_scratch_size or metadata.global_scratch_align > SCRATCH_ALIGNMENT:
        raise KernelCompileError(f"{what} needs scratch memory of another kind for {target_name(sm)}", _TESTED)
    made = GemmTile(
        block_m=shape.block_m,
        block_n=shape.block_n,
        block_k=shape.block_k,
        warps=metadata.num_warps,
        stages=shape.stages,
        shared_bytes=metadata.shared,
        scratch_bytes=metadata.global_scratch_size,
    )
    named = tuple(name for name, kind in signature.items() if kind != "constexpr")
    return CompiledGemm(compiled.asm["cubin"], made, (*named, *SCRATCH))


def triton_version() -> str:
    """Return the version of the installed Triton, whose wheel brings the assembler too.

    Raises:
        DependencyMissingError: it is not installed.
    """
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing() from error


def _compile(module: ModuleType, shape: Any, signature: dict[str, str], sm: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    asked = ASTSource(
        fn=module.gemm_kernel,
        signature=signature,
        constexprs=module.constants(shape),
        attrs=module.attributes(),
    )
    return triton.compile(
        asked,
        target=GPUTarget("cuda", sm, _WARP),
        # Said, not left to a default that differs between versions of Triton.
        options={"num_warps": shape.warps, "num_stages": shape.stages, "enable_fp_fusion": False},
    )


def _shortened(log: str) -> str:
    """Keep both ends of a long message: ptxas says first what is wrong, Triton last, below the source."""
    lines = [line for line in log.splitlines() if line.strip()]
    if len(lines) > _FIRST_LINES + _LAST_LINES:
        lines = [*lines[:_FIRST_LINES], "…", *lines[-_LAST_LINES:]]
    return "\n".join(lines)


@contextmanager
def _own_cache() -> Iterator[None]:
    """Neither read nor fill the user's cache, and keep line numbers, with their paths, out of the cubin."""
    from triton import knobs

    with (
        tempfile.TemporaryDirectory(prefix="nvfp4-triton-") as folder,
        knobs.cache.scope(),
        knobs.compilation.scope(),
    ):
        knobs.cache.dir = folder
        knobs.compilation.disable_line_info = True
        yield


def _import(source: Path) -> ModuleType:
    try:
        import triton  # noqa: F401 (asked for here, so that its absence is told as what it is)
    except ImportError as error:
        raise _missing() from error
    spec = importlib.util.spec_from_file_location("nvfp4_gemm_source", source)
    if spec is None or spec.loader is None:
        raise KernelCompileError(f"{source} is not a Python file", _TESTED)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _missing() -> DependencyMissingError:
    return DependencyMissingError(
        "triton, which compiles the GEMM, is not installed", "pip install 'nvfp4-trt[kernels]'"
    )
