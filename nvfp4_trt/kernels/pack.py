"""The kernel pack: a folder of cubins and the manifest that says what each of them is.

Nothing here compiles or loads a kernel: reading a pack needs no compiler, no driver and no GPU.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nvfp4_trt.errors import FileMissingError, FileTruncatedError, KernelMissingError, PackInvalidError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_REBUILD = "make it again: nvfp4-trt build plugin -o {folder}/ --force"

_PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""The name of a file in the pack's own folder: a manifest cannot lead out of it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """One kernel function of a cubin, with the resources that a launch takes."""

    name: str
    registers: int
    """32-bit registers of one thread."""
    shared_bytes: int
    """Static shared memory of a block."""
    local_bytes: int
    """Local memory of one thread: its stack, spilled registers included."""
    max_threads: int
    """Most threads of a block; 0 where the kernel was compiled without a bound."""


class GemmTile(_Strict):
    """The tile that one GEMM cubin was compiled for."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    shared_bytes: int
    """Dynamic shared memory of a launch."""
    scratch_bytes: int = 0
    """Device memory that each program of the grid needs while it runs, 128-byte aligned: its TMA descriptors."""

    @property
    def name(self) -> str:
        """The tile as file names and tile tables write it: `128x128x256`."""
        return f"{self.block_m}x{self.block_n}x{self.block_k}"


class KernelFile(_Strict):
    """One cubin: a kernel for one dtype (a GEMM: one output dtype and one tile) and one GPU architecture."""

    file: _PlainName
    sha256: str
    kernel: str
    dtype: str
    sm: int
    entries: tuple[Entry, ...]
    fp4_opcode: str | None
    """The FP4 tensor-core instruction found in the cubin's disassembly."""
    opcodes: dict[str, int]
    """How often each instruction stands in the disassembly, without its modifiers."""
    tile: GemmTile | None
    params: tuple[str, ...]
    """The names of the parameters of every entry, in order."""


class Manifest(_Strict):
    """What `manifest.json` holds: the cubins, what made them, and which GEMM tile to use when."""

    format_version: int = FORMAT_VERSION
    package_version: str
    compilers: dict[str, str]
    sources: dict[str, str]
    """SHA-256 of every source file, by its name."""
    kernels: tuple[KernelFile, ...]
    gemm_tiles: dict[str, Any]
    """For each architecture, as `sm_90`, the rows of `gemm_tiles.json`."""


@dataclass(frozen=True)
class Pack:
    """A kernel pack on disk.

    Args:
        root: the folder.
        manifest: what its `manifest.json` holds.
    """

    root: Path
    manifest: Manifest

    @property
    def sms(self) -> tuple[int, ...]:
        """The GPU architectures that the pack has cubins for, ascending."""
        return tuple(sorted({each.sm for each in self.manifest.kernels}))

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, int, str | None], KernelFile]:
        return {
            (each.kernel, each.dtype, each.sm, None if each.tile is None else each.tile.name): each
            for each in self.manifest.kernels
        }

    def file(self, kernel: str, dtype: str, sm: int, tile: str | None = None) -> KernelFile:
        """Return the record of one cubin.

        Args:
            kernel: `quantize`, `norm_quantize`, `activation_quantize` or `gemm`.
            dtype: `f16`, `bf16` or `f32`.
            sm: the GPU architecture, for example 120.
            tile: the tile of a GEMM, for example `128x128x256`; None for the other kernels.

        Raises:
            KernelMissingError: the pack has no such cubin; the message says what it has.
        """
        found = self._by_key.get((kernel, dtype, sm, tile))
        if found is not None:
            return found
        asked = " ".join([kernel, dtype, *([] if tile is None else [tile])])
        if sm not in self.sms:
            having = ", ".join(f"sm_{each}" for each in self.sms) or "no architecture"
            raise KernelMissingError(
                f"the kernel pack {self.root} has no kernels for sm_{sm}: it was built for {having}",
                f"nvfp4-trt build plugin -o {self.root}/ --force --sm {sm}",
            )
        other = [e.file for e in self.manifest.kernels if (e.kernel, e.sm) == (kernel, sm)]
        having = ", ".join(other) or f"no {kernel} at all"
        raise KernelMissingError(
            f"the kernel pack {self.root} has no {asked} for sm_{sm}; it has {having}",
            _REBUILD.format(folder=self.root),
        )

    def read(self, file: KernelFile) -> bytes:
        """Return the bytes of a cubin, checked against the manifest's hash.

        Raises:
            FileMissingError: the cubin is not in the folder.
            FileTruncatedError: its bytes are not those that the manifest was written for.
        """
        path = self.root / file.file
        if not path.is_file():
            raise FileMissingError(
                f"{path}, which {MANIFEST} names, does not exist", _REBUILD.format(folder=self.root)
            )
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != file.sha256:
            raise FileTruncatedError(
                f"{path} has the SHA-256 {found[:12]}…, and {MANIFEST} says {file.sha256[:12]}…",
                _REBUILD.format(folder=self.root),
            )
        return data


def load_pack(path: str | Path) -> Pack:
    """Read a kernel pack's manifest. The cubins are read, and their hashes checked, by `Pack.read`.

    Raises:
        FileMissingError: the folder, or the manifest in it, does not exist.
        PackInvalidError: the manifest cannot be understood, or is of a version that is not known.
    """
    root = Path(path)
    manifest = root / MANIFEST
    if not manifest.is_file():
        what = "holds no manifest.json" if root.is_dir() else "does not exist"
        raise FileMissingError(f"the kernel pack {root} {what}", f"nvfp4-trt build plugin -o {root}/")
    hint = _REBUILD.format(folder=root)
    try:
        data = json.loads(manifest.read_bytes())
    except ValueError as error:  # json's own error and that of bytes that are not UTF-8
        raise PackInvalidError(f"{manifest} is not JSON: {error}", hint) from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise PackInvalidError(
            f"{manifest} has the format version {version!r}, and this package reads {FORMAT_VERSION}", hint
        )
    try:
        return Pack(root, Manifest.model_validate(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackInvalidError(f"{manifest}: {where}: {first['msg']}", hint) from error
