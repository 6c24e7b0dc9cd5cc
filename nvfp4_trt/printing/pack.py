"""What `build plugin` prints: the pack by kernel and architecture."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from nvfp4_trt.printing.tables import table
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.kernels import KernelFile, Pack


def pack_object(pack: Pack) -> dict[str, Any]:
    """Return the JSON object of a pack: what was made, with what, and each cubin's main figures."""
    return {
        "pack": str(pack.root),
        "bytes": _bytes(pack, pack.manifest.kernels),
        "sms": list(pack.sms),
        "compilers": pack.manifest.compilers,
        "cubins": [
            {
                "file": each.file,
                "sha256": each.sha256,
                "registers": _registers(each),
                "local_bytes": _local_bytes(each),
                "fp4_opcode": each.fp4_opcode,
            }
            for each in pack.manifest.kernels
        ],
    }


def pack_summary(pack: Pack) -> list[RenderableType]:
    """Return the table for people: a row for each kernel and architecture."""
    groups: dict[tuple[str, int], list[KernelFile]] = defaultdict(list)
    for each in pack.manifest.kernels:
        groups[each.kernel, each.sm].append(each)
    rows = [
        (
            kernel,
            f"sm_{sm}",
            len(files),
            max(_registers(each) for each in files),
            max(_local_bytes(each) for each in files),
            readable_size(_bytes(pack, files)),
            ", ".join(sorted({each.fp4_opcode for each in files if each.fp4_opcode})) or "-",
        )
        for (kernel, sm), files in sorted(groups.items())
    ]
    columns = ("kernel", "target", "#cubins", "#registers", "#local bytes", "#size", "FP4 instruction")
    made = pack.manifest.kernels
    size = readable_size(_bytes(pack, made))
    return [table("Kernels", columns, rows), "", escape(f"wrote {pack.root}: {len(made)} cubins, {size}")]


def _registers(file: KernelFile) -> int:
    return max(entry.registers for entry in file.entries)


def _local_bytes(file: KernelFile) -> int:
    return max(entry.local_bytes for entry in file.entries)


def _bytes(pack: Pack, files: tuple[KernelFile, ...] | list[KernelFile]) -> int:
    return sum((pack.root / each.file).stat().st_size for each in files)
