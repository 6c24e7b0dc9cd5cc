"""The kernel pack that is used where none is named: `NVFP4_TRT_PACK`, or one in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.kernels.pack import MANIFEST, Pack, load_pack

if TYPE_CHECKING:
    from collections.abc import Sequence

PACK_VARIABLE = "NVFP4_TRT_PACK"


def default_pack(sm: int, kernels: Sequence[str] = ()) -> Pack:
    """Return the pack that `NVFP4_TRT_PACK` names, or else the cached one, made if it is missing.

    The folder's name has the package's version and a hash of the kernels' sources, so that neither an update nor
    an edit meets an old pack.

    Args:
        sm: GPU architecture, for example 120.
        kernels: which to make, by name; all where none is given.

    Raises:
        Nvfp4Error: the named pack cannot be read, or the pack cannot be made.
    """
    named = os.environ.get(PACK_VARIABLE)
    if named:
        return load_pack(named)
    from nvfp4_trt.kernels.build import build_pack
    from nvfp4_trt.kernels.sources import SOURCES, hash_sources

    told = json.dumps([version("nvfp4-trt"), hash_sources(SOURCES), sorted(kernels)])
    folder = cache_folder() / f"pack-{hashlib.sha256(told.encode()).hexdigest()[:16]}-sm_{sm}"
    if (folder / MANIFEST).is_file():
        return load_pack(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return build_pack(folder, sms=(sm,), kernels=tuple(kernels))


def cache_folder() -> Path:
    """Return the user's cache folder of this package: `$XDG_CACHE_HOME/nvfp4-trt`, or `~/.cache/nvfp4-trt`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "nvfp4-trt"
