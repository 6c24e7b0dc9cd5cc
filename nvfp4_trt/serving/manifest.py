"""`manifest.json`: what a serving layer needs to know of a serving set."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import ml_dtypes  # noqa: F401 (gives NumPy bfloat16 and the 8-bit floats by name)
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nvfp4_trt.errors import FileMissingError, FileTruncatedError, NotAModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"
Extent = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Frozen):
    """An input or output of the model."""

    name: str
    dtype: str
    """NumPy's name, such as int64, float16, bfloat16."""
    shape: tuple[int | str, ...]
    """Extents; the name of a dimension where it is dynamic."""
    pad: float = 0.0
    """Of an input: what it is padded with (not along the batch, where its last row is repeated)."""

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Its dtype."""
        return np.dtype(self.dtype)

    @property
    def dims(self) -> tuple[str, ...]:
        """Its dynamic dimensions."""
        return tuple(dim for dim in self.shape if isinstance(dim, str))

    @property
    def is_mask(self) -> bool:
        """Whether its name says that it is a mask."""
        return "mask" in self.name.lower()

    def shape_at(self, extents: Mapping[str, int]) -> tuple[int, ...]:
        """Return its shape where the dynamic dimensions have these extents."""
        return tuple(dim if isinstance(dim, int) else extents[dim] for dim in self.shape)


class ModelEntry(_Frozen):
    """The portable file that the engines were built from."""

    file: str
    data: tuple[str, ...] = ()
    """Files with its weights beside it; none where they are in the file."""
    sha256: str
    recipe: str
    activation_scaling: str
    """Of the recipe: a `dynamic` scale is over the whole tensor, so that it sees the padding."""
    source_sha256: str


class EngineEntry(_Frozen):
    """An engine file, or one profile of it, and what its record says."""

    file: str
    """In the folder; the engine's record is beside it as `FILE.json`."""
    profile: int = 0
    """The optimization profile to run it with."""
    sha256: str
    engine_bytes: int
    """Size of the file: with `--share-weights`, of the one file that every bucket is in."""
    kernels: int
    bytes_moved: int
    """That one run's kernels read and write, by the layer record; of the dynamic engine, at preferred extents."""
    microseconds_modelled: float
    """Of one run, at the same extents, on the manifest's `gpu`: modelled, not measured."""
    unresolved: int
    """Operands of the record whose size is not known, so that the two figures above may be off."""
    activation_bytes: int | None = None
    """Memory for activations as TensorRT's log states it; null where it does not."""


class BucketEntry(EngineEntry):
    """One fixed shape."""

    name: str
    extents: dict[str, Extent]

    @property
    def volume(self) -> int:
        """Product of the extents."""
        return math.prod(self.extents.values())


class DynamicEntry(EngineEntry):
    """The engine for shapes that no bucket takes."""

    ranges: dict[str, tuple[Extent, Extent, Extent]]
    """Dimension name → smallest, preferred and largest extent."""


class Manifest(_Frozen):
    """The whole file."""

    format_version: Literal[1] = 1
    model: ModelEntry
    backend: str
    version: str
    """The backend's."""
    targets: tuple[str, ...]
    gpu: str
    """The GPU that times are modelled on."""
    plugin: str = ""
    """The kernel pack that the engines' plugins need; empty where they have none."""
    dims: tuple[str, ...]
    """The dynamic dimensions, in the order of a bucket's name."""
    batch: str | None
    """The dimension that counts rows: it leads every input and output, and larger requests are split along it."""
    unmasked: tuple[str, ...]
    """Dimensions that are padded without a mask among the inputs: results depend on the padding."""
    shared_weights: bool
    """Whether the buckets are profiles of one engine, with the weights once."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    buckets: Annotated[tuple[BucketEntry, ...], Field(min_length=1)]
    dynamic: DynamicEntry | None = None

    @property
    def engines(self) -> tuple[EngineEntry, ...]:
        """Every bucket, then the dynamic engine."""
        return (*self.buckets, *((self.dynamic,) if self.dynamic else ()))


def is_serving_set(folder: Path) -> bool:
    """Return whether a folder looks like a serving set: it has a manifest."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Read a serving set's manifest.

    Raises:
        FileMissingError: there is no such folder, or a file that the manifest names is not in it.
        NotAModelError: the folder has no manifest, or one that cannot be understood.
    """
    if not folder.exists():
        raise FileMissingError(
            f"{folder} does not exist", "make it: nvfp4-trt build engine FILE --buckets … -o FOLDER"
        )
    if not is_serving_set(folder):
        raise NotAModelError(
            f"{folder} has no {MANIFEST}", "give a folder that `nvfp4-trt build engine --buckets` made"
        )
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "not UTF-8"}
        where = ".".join(map(str, what["loc"])) or "the file"
        raise NotAModelError(f"{folder / MANIFEST}: {where}: {what['msg']}", "build the set again") from error
    _check_names(folder, manifest)
    return manifest


def _check_names(folder: Path, manifest: Manifest) -> None:
    for name in (manifest.model.file, *manifest.model.data, *(each.file for each in manifest.engines)):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise NotAModelError(f"{folder / MANIFEST} names {name}, outside of the folder", "build the set again")
        if not (folder / name).is_file():
            raise FileMissingError(f"{folder / name}, which {MANIFEST} names, is missing", "copy the whole folder")


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file that is not the one that was built.

    Raises:
        FileTruncatedError: its checksum is another.
    """
    if sha256(path) != expected:
        raise FileTruncatedError(
            f"{path} is not the file that {MANIFEST} describes", "copy the whole folder again"
        )
