"""What is inside a cubin: instructions, registers, memory; and what a Blackwell kernel must have.

Read from NVIDIA's own disassemblers (`cuobjdump`, which calls `nvdisasm`), which need no driver.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from nvfp4_trt.errors import (
    DependencyMissingError,
    KernelCompileError,
    KernelNotFp4Error,
    KernelSpillsError,
)
from nvfp4_trt.kernels.sources import BLACKWELL

_FUNCTION = re.compile(r"^\s+Function : (\S+)$", re.MULTILINE)
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_USAGE = re.compile(r"^ Function (\S+):\n\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", re.MULTILINE)
_INFO = re.compile(r"^\.nv\.info\.(\S+)\n(.*?)(?=^\.|\Z)", re.MULTILINE | re.DOTALL)
_THREADS = re.compile(r"EIATTR_(?:MAX_THREADS|REQNTID)\n(?:.*\n)?\s+Value:\s+(0x\w+) (0x\w+) (0x\w+)")

_FP4 = {
    100: re.compile(r"UTCOMMA\.(?:\S+\.)?(?:4X|BLOCK16)\S*"),
    120: re.compile(r"OMMA\.\S*E2M1\.E2M1\.UE4M3\.4X\S*"),
}
"""The tensor-core instruction on e2m1 with a block scale for each 16 elements, by the first architecture.

`UTCOMMA` is what the assembler makes of tcgen05's `mxf4nvf4.block_scale.block16`, written `.4X` for sm_100 and
`.BLOCK16` for sm_103; `OMMA` is `mma.sync`'s `mxf4nvf4` with `scale_vec::4X` and `ue4m3`.
"""

_RESERVED_SHARED = 1024
"""Bytes of each block's shared memory that the system keeps, which the tables count where a block has any."""

_SPILLS = ("LDL", "STL")


class Contents(NamedTuple):
    """One kernel function of a cubin."""

    opcodes: Counter[str]
    """How often each instruction stands in it, with its modifiers."""
    registers: int
    """32-bit registers of a thread."""
    shared_bytes: int
    """Static shared memory of a block."""
    local_bytes: int
    """Local memory of a thread: its stack, spilled registers included."""
    max_threads: int
    """Threads of a block, at most; 0 where nothing bounds them."""
    params: int
    """How many parameters it takes."""


def inspect_cubin(path: Path) -> dict[str, Contents]:
    """Disassemble a cubin.

    Returns:
        The contents of each kernel function, by its name, in alphabetical order.

    Raises:
        DependencyMissingError: a disassembler is not installed.
        KernelCompileError: the file is no cubin, or one that the disassembler does not know.
    """
    listing, usage, tables = (_cuobjdump(option, path) for option in ("-sass", "-res-usage", "-elf"))
    heads = list(_FUNCTION.finditer(listing))
    ends = [*(head.start() for head in heads[1:]), len(listing)]
    opcodes = {
        head[1]: Counter(_INSTRUCTION.findall(listing, head.end(), end))
        for head, end in zip(heads, ends, strict=True)
    }
    resources = {name: tuple(map(int, numbers)) for name, *numbers in _USAGE.findall(usage)}
    infos = dict(_INFO.findall(tables))
    if not opcodes or set(opcodes) != set(resources):
        raise KernelCompileError(
            f"{path.name} holds no kernels that cuobjdump {tool_version('cuobjdump')} can read", _TOOLS_HINT
        )
    return {name: _contents(opcodes[name], resources[name], infos.get(name, "")) for name in sorted(opcodes)}


def find_fp4_opcode(contents: dict[str, Contents], sm: int) -> str | None:
    """Return the FP4 tensor-core instruction that a cubin holds, or None."""
    if sm < BLACKWELL:
        return None
    pattern = _FP4[max(first for first in _FP4 if first <= sm)]
    found = {name for entry in contents.values() for name in entry.opcodes if pattern.fullmatch(name)}
    return min(found, default=None)


def check_contents(file: str, kernel: str, sm: int, contents: dict[str, Contents]) -> None:
    """Refuse a Blackwell kernel that spills, and a Blackwell GEMM that is not FP4.

    Raises:
        KernelSpillsError: an entry has local memory, or loads or stores there.
        KernelNotFp4Error: a GEMM without the FP4 instruction of its architecture.
    """
    if sm < BLACKWELL:
        return
    for name, entry in contents.items():
        moves = sum(count for opcode, count in entry.opcodes.items() if opcode.split(".")[0] in _SPILLS)
        if entry.local_bytes or moves:
            raise KernelSpillsError(
                f"{file}: {name} keeps {entry.local_bytes} bytes of each thread in local memory "
                f"({moves} loads and stores, {entry.registers} registers)",
                "give it fewer values to hold at a time: a smaller tile, or more warps",
            )
    if kernel == "gemm" and find_fp4_opcode(contents, sm) is None:
        mma = sorted({name for entry in contents.values() for name in entry.opcodes if "MMA" in name})
        raise KernelNotFp4Error(
            f"{file} has no FP4 tensor-core instruction; it has {', '.join(mma) or 'none at all'}",
            "install the compiler that this version was tested with (constraints.txt)",
        )


def tool_version(name: str) -> str:
    """Return the version of a disassembler's package, or `system` where it is on the path instead."""
    try:
        return importlib.metadata.version(f"nvidia-cuda-{name}")
    except importlib.metadata.PackageNotFoundError:
        return "system"


_TOOLS_HINT = "pip install 'nvfp4-trt[kernels]'"


def find_tool(name: str) -> Path:
    """Return the path of a disassembler: its pip package's, else the one on the path.

    Raises:
        DependencyMissingError: there is none.
    """
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{name}") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name and (place := Path(str(file.locate()))).is_file():
            return place
    on_path = shutil.which(name)
    if on_path is None:
        raise DependencyMissingError(f"{name}, which disassembles kernels, is not installed", _TOOLS_HINT)
    return Path(on_path)


def _cuobjdump(option: str, path: Path) -> str:
    # cuobjdump looks for nvdisasm on the path.
    search = os.pathsep.join([str(find_tool("nvdisasm").parent), os.environ.get("PATH", os.defpath)])
    command = [str(find_tool("cuobjdump")), option, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": search})
    if done.returncode != 0:
        told = " ".join((done.stderr or done.stdout).split())
        raise KernelCompileError(f"cuobjdump {option} {path.name}: {told}", _TOOLS_HINT)
    return done.stdout


def _contents(opcodes: Counter[str], resources: tuple[int, ...], info: str) -> Contents:
    registers, stack, shared, local = resources
    bound = _THREADS.search(info)
    threads = 0
    if bound is not None:
        x, y, z = (int(extent, 16) for extent in bound.groups())
        threads = x * y * z
    own = max(shared - _RESERVED_SHARED, 0)
    return Contents(opcodes, registers, own, stack + local, threads, info.count("EIATTR_KPARAM_INFO"))
