"""Building a kernel pack: every kernel, dtype and GPU architecture, compiled, disassembled and checked.

The same sources and compilers give the same bytes, the manifest's included.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvfp4_trt.atomic import output_tree
from nvfp4_trt.errors import (
    InputSpecError,
    KernelCompileError,
    OutputUnwritableError,
    TargetUnsupportedError,
)
from nvfp4_trt.kernels.cuda_compiler import nvrtc_version
from nvfp4_trt.kernels.disassembly import find_tool, tool_version
from nvfp4_trt.kernels.pack import MANIFEST, Manifest, Pack
from nvfp4_trt.kernels.pool import make_cubins
from nvfp4_trt.kernels.sources import (
    DTYPES,
    GEMM_SOURCE,
    SMS,
    SOURCES,
    TILE_TABLE,
    hash_sources,
    kernel_names,
)
from nvfp4_trt.kernels.triton_compiler import tile_names, triton_version
from nvfp4_trt.kernels.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def build_pack(
    out: str | Path,
    *,
    sms: Sequence[int] = (),
    kernels: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    force: bool = False,
    sources: Path = SOURCES,
    progress: Callable[[int, int], None] | None = None,
) -> Pack:
    """Compile the kernels into a folder of cubins and a manifest. Needs no GPU and no driver.

    Args:
        out: the folder to make; it appears whole or not at all.
        sms: GPU architectures, for example 120; all five where none is given.
        kernels: their names, for example `quantize`; all where none is given.
        dtypes: `f16`, `bf16`, `f32`; all where none is given.
        force: replace a kernel pack that is there already.
        sources: the folder of the kernels' sources.
        progress: called after each cubin with how many are done, and how many there are.

    Raises:
        OutputUnwritableError: there is something in the way, or the folder's place cannot be written to.
        TargetUnsupportedError: an architecture that the kernels are not made for.
        InputSpecError: an unknown kernel or dtype.
        DependencyMissingError: a compiler or a disassembler is not installed.
        KernelCompileError: a kernel does not compile.
        KernelSpillsError, KernelNotFp4Error: a Blackwell kernel is not what it must be.
        DiskFullError: the disk filled up.
    """
    path = Path(out)
    _check_place(path, force=force)
    chosen_sms = _chosen_sms(sms)
    chosen_kernels = _chosen("kernel", kernels, kernel_names(sources))
    chosen_dtypes = _chosen("dtype", dtypes, DTYPES)
    compilers = _compilers(chosen_kernels)
    tiles = tile_names(sources / GEMM_SOURCE) if "gemm" in chosen_kernels else ()
    table = _tile_table(sources, chosen_sms, tiles) if tiles else {}
    with output_tree(path) as scratch:
        jobs = [
            Job(kernel=kernel, dtype=dtype, sm=sm, tile=tile, sources=sources.resolve(), folder=scratch.resolve())
            for kernel in chosen_kernels
            for tile in (tiles if kernel == "gemm" else (None,))
            for sm in chosen_sms
            for dtype in chosen_dtypes
        ]
        made = make_cubins(jobs, progress or (lambda _done, _all: None))
        manifest = Manifest(
            package_version=version("nvfp4-trt"),
            compilers=compilers,
            sources=hash_sources(sources),
            kernels=tuple(sorted(made, key=lambda each: each.file)),
            gemm_tiles=table,
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
        (scratch / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return Pack(path, manifest)


def _check_place(path: Path, *, force: bool) -> None:
    """Refuse to replace what was not asked to be replaced, and what is no kernel pack at all."""
    if not path.is_dir():
        return
    there = [each.name for each in path.iterdir()]
    if not there:
        return
    others = sorted(name for name in there if name != MANIFEST and not name.endswith(".cubin"))
    if others or MANIFEST not in there:
        what = f"holds {others[0]}" if others else f"has no {MANIFEST}"
        raise OutputUnwritableError(
            f"{path} {what}: it is not a kernel pack, and stays as it is", "name a new folder with -o"
        )
    if not force:
        raise OutputUnwritableError(f"there is a kernel pack in {path} already", "--force replaces it")


def _chosen_sms(asked: Sequence[int]) -> tuple[int, ...]:
    for sm in asked:
        if sm not in SMS:
            raise TargetUnsupportedError(
                f"there are no kernels for sm_{sm}", f"choose from {', '.join(map(str, SMS))}"
            )
    return tuple(sm for sm in SMS if sm in asked) or SMS


def _chosen(what: str, asked: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    for name in asked:
        if name not in known:
            raise InputSpecError(f"there is no {what} {name!r}", f"choose from {', '.join(known)}")
    return tuple(name for name in known if name in asked) or tuple(known)


def _compilers(kernels: Sequence[str]) -> dict[str, str]:
    """Return the versions of what the kernels are made with, all of which must be there."""
    found = {name: tool_version(name) for name in ("cuobjdump", "nvdisasm") if find_tool(name)}
    if set(kernels) - {"gemm"}:
        found["nvrtc"] = nvrtc_version()
    if "gemm" in kernels:
        found["triton"] = triton_version()
    return dict(sorted(found.items()))


def _tile_table(sources: Path, sms: Sequence[int], tiles: Sequence[str]) -> dict[str, Any]:
    """Return the rows that say which GEMM tile to use when, for some architectures.

    Raises:
        KernelCompileError: the table is missing or broken, or names a tile that the GEMM has not.
    """
    path = sources / TILE_TABLE
    hint = f"mend {TILE_TABLE}"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        rows = {f"sm_{sm}": table[f"sm_{sm}"] for sm in sms}
        named = {row["tile"] for each in rows.values() for row in each["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KernelCompileError(f"{path} cannot be used: {type(error).__name__}: {error}", hint) from error
    if unknown := sorted(named - set(tiles)):
        raise KernelCompileError(f"{path} names the tile {unknown[0]}; there are {', '.join(tiles)}", hint)
    return rows
