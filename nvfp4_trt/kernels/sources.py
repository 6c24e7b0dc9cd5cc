"""The kernels' sources: where they are, what there is to compile, and for which GPUs.

In the repository they stand in `plugins/kernels`; this room's `sources` is a link there, which an installed
package has as a folder of files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from nvfp4_trt.errors import FileMissingError

SOURCES = Path(__file__).parent / "sources"
GEMM_SOURCE = "gemm.py"
TILE_TABLE = "gemm_tiles.json"

SMS = (90, 100, 103, 120, 121)
"""GPU architectures: Hopper, for testing, and the four Blackwells with FP4 tensor cores."""
BLACKWELL = 100
"""From this architecture on, GPUs have FP4 tensor cores."""
DTYPES = ("f16", "bf16", "f32")

_KINDS = ("*.cu", "*.cuh", "*.py", "*.json")


def target_name(sm: int) -> str:
    """Return the compiler's name of an architecture: `sm_90`, and from 100 on `sm_100a`.

    The FP4 instructions exist for the architecture-specific targets alone, whose cubins run on that GPU only.
    """
    return f"sm_{sm}a" if sm >= BLACKWELL else f"sm_{sm}"


def kernel_names(folder: Path) -> tuple[str, ...]:
    """Return the kernels that a folder of sources makes, in alphabetical order.

    Raises:
        FileMissingError: the folder has none.
    """
    names = [path.stem for path in folder.glob("*.cu")]
    if (folder / GEMM_SOURCE).is_file():
        names.append("gemm")
    if not names:
        raise FileMissingError(
            f"the kernels' sources are not in {folder}", "install the package again: it was not copied whole"
        )
    return tuple(sorted(names))


def read_headers(folder: Path) -> dict[str, str]:
    """Return the text of every header of a folder, by the name that a source includes it under."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.cuh"))}


def hash_sources(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every source file of a folder, by its name, in alphabetical order."""
    files = sorted({path for kind in _KINDS for path in folder.glob(kind)})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
