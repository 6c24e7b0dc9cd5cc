"""Turns a kernel pack into two source files: the cubins by `.incbin`, and a table of what they are.

    python embed_pack.py PACK OUT [--sm 90 --sm 120]

writes OUT/pack_data.S and OUT/pack_table.cpp, which `pack.hpp` declares. Needs Python alone. The same pack
gives the same bytes, and neither file names a folder other than the pack's.
"""

# ruff: noqa: INP001 (a program, not part of a package)
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1

DATA_HEAD = """\
    .section .rodata.nvfp4_pack, "a", @progbits
"""
DATA_CUBIN = """\
    .balign 64
    .globl nvfp4_cubin_{i}
    .hidden nvfp4_cubin_{i}
nvfp4_cubin_{i}:
    .incbin "{path}"
    .globl nvfp4_cubin_{i}_end
    .hidden nvfp4_cubin_{i}_end
nvfp4_cubin_{i}_end:
    .byte 0
"""
# Without this section the linker would make the stack executable.
DATA_FOOT = """\
    .section .note.GNU-stack, "", @progbits
"""

TABLE_HEAD = '// Made from a kernel pack\'s manifest.json by embed_pack.py.\n#include "pack.hpp"\n\n'
TABLE_FOOT = """
const nvfp4::Pack& nvfp4::embedded_pack() {{
  static const Pack pack{{{cubins}, {cubin_count}, {rows}, {row_count}, {digest}}};
  return pack;
}}
"""


class PackError(Exception):
    """A pack that cannot be embedded: what is wrong with it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Embed a kernel pack into C++ sources.")
    parser.add_argument("pack", type=Path, help="the folder that `nvfp4-trt build plugin` made")
    parser.add_argument("out", type=Path, help="an existing folder for the two files")
    parser.add_argument("--sm", type=int, action="append", help="only this architecture; may be repeated")
    given = parser.parse_args(arguments)
    try:
        manifest = read_manifest(given.pack)
        kernels = selected(manifest["kernels"], given.sm)
        check_files(given.pack, kernels)
        made = {"pack_data.S": data_source(given.pack, kernels), "pack_table.cpp": table_source(manifest, kernels)}
        for name, text in made.items():
            (given.out / name).write_text(text, encoding="utf-8")
    except (OSError, KeyError, TypeError, ValueError, PackError) as error:
        detail = f"{error.args[0]!r} is missing in the manifest" if isinstance(error, KeyError) else str(error)
        sys.stderr.write(f"embed_pack: {given.pack}: {detail}\n")
        return 2
    return 0


def read_manifest(pack: Path) -> dict[str, Any]:
    """Return the pack's manifest.

    Raises:
        PackError: its format is of another version.
    """
    manifest: dict[str, Any] = json.loads((pack / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format_version"] != FORMAT_VERSION:
        raise PackError(f"format version {manifest['format_version']!r}, and only {FORMAT_VERSION} is known")
    return manifest


def selected(kernels: list[dict[str, Any]], sms: list[int] | None) -> list[dict[str, Any]]:
    """Return the records of the architectures asked for; all of them where none was.

    Raises:
        PackError: the pack lacks an architecture that was asked for.
    """
    missing = set(sms or ()) - {kernel["sm"] for kernel in kernels}
    if missing:
        raise PackError(f"no cubins for sm_{min(missing)}")
    return sorted((k for k in kernels if not sms or k["sm"] in sms), key=lambda k: k["file"])


def check_files(pack: Path, kernels: list[dict[str, Any]]) -> None:
    """Hold every cubin to the hash in its record.

    Raises:
        PackError: one differs.
    """
    for kernel in kernels:
        found = hashlib.sha256((pack / kernel["file"]).read_bytes()).hexdigest()
        if found != kernel["sha256"]:
            raise PackError(f"{kernel['file']} is not the file that the manifest was written for")


def data_source(pack: Path, kernels: list[dict[str, Any]]) -> str:
    """Return the assembler source that includes the cubins' bytes."""
    parts = [
        DATA_CUBIN.format(i=i, path=_escaped((pack / kernel["file"]).resolve().as_posix()))
        for i, kernel in enumerate(kernels)
    ]
    return "".join([DATA_HEAD, *parts, DATA_FOOT])


def table_source(manifest: dict[str, Any], kernels: list[dict[str, Any]]) -> str:
    """Return the C++ source of the table: cubins, their entries and tiles, and the rows that choose a tile."""
    lines = [TABLE_HEAD, 'extern "C" {\n']
    for i in range(len(kernels)):
        lines.append(f"extern const unsigned char nvfp4_cubin_{i}[];\n")
        lines.append(f"extern const unsigned char nvfp4_cubin_{i}_end[];\n")
    lines.append("}\n\nnamespace {\n\n")
    for i, kernel in enumerate(kernels):
        lines.append(_entries(i, kernel))
    records = [_cubin(i, kernel) for i, kernel in enumerate(kernels)]
    rows = _rows(manifest["gemm_tiles"], {kernel["sm"] for kernel in kernels})
    lines.append(_array("Cubin", "CUBINS", records))
    lines.append(_array("TileRow", "ROWS", rows))
    lines.append("\n}  // namespace\n")
    foot = TABLE_FOOT.format(
        cubins="CUBINS" if records else "nullptr",
        cubin_count=len(records),
        rows="ROWS" if rows else "nullptr",
        row_count=len(rows),
        digest=_quoted(hashlib.sha256("".join([*(k["sha256"] for k in kernels), *rows]).encode()).hexdigest()),
    )
    return "".join([*lines, foot])


def _entries(i: int, kernel: dict[str, Any]) -> str:
    items = [f"{{{_quoted(e['name'])}, {int(e['shared_bytes'])}}}" for e in kernel["entries"]]
    text = _array("Entry", f"ENTRIES_{i}", items)
    tile = kernel["tile"]
    if tile is not None:
        numbers = [int(tile[key]) for key in ("block_m", "block_n", "block_k", "warps", "shared_bytes")]
        numbers.append(int(tile.get("scratch_bytes", 0)))  # older packs have none
        text += f"constexpr nvfp4::Tile TILE_{i}{{{', '.join(map(str, numbers))}}};\n"
    return text


def _cubin(i: int, kernel: dict[str, Any]) -> str:
    dtype = {"f16": "F16", "bf16": "BF16", "f32": "F32"}[kernel["dtype"]]
    fields = [
        _quoted(kernel["file"]),
        _quoted(kernel["kernel"]),
        f"nvfp4::Dtype::{dtype}",
        str(int(kernel["sm"])),
        "nullptr" if kernel["tile"] is None else f"&TILE_{i}",
        f"nvfp4_cubin_{i}",
        f"nvfp4_cubin_{i}_end",
        f"ENTRIES_{i}",
        str(len(kernel["entries"])),
    ]
    return "{" + ", ".join(fields) + "}"


def _rows(tables: dict[str, Any], sms: set[int]) -> list[str]:
    rows = []
    for sm in sorted(sms):
        for row in tables.get(f"sm_{sm}", {"rows": []})["rows"]:
            limits = [
                "nvfp4::ANY" if row[key] is None else str(int(row[key])) for key in ("max_m", "max_n", "max_k")
            ]
            tile = [str(int(extent)) for extent in row["tile"].split("x")]
            rows.append("{" + ", ".join([str(sm), *limits, *tile, str(int(row["split_k"]))]) + "}")
    return rows


def _array(kind: str, name: str, items: list[str]) -> str:
    if not items:
        return ""
    body = "".join(f"    {item},\n" for item in items)
    return f"constexpr nvfp4::{kind} {name}[] = {{\n{body}}};\n"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


if __name__ == "__main__":
    sys.exit(main())
