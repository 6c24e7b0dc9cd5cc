"""The GEMM's main loop against CUTLASS's, counted from the disassembly: issue slots for each FP4 MMA, occupancy.

    python benchmarks/gemm_sass.py --nvcc NVCC --cutlass-include DIR [--cutlass-include DIR]

compiles ours with Triton and CUTLASS's with nvcc (pip: nvidia-cutlass, nvidia-cuda-nvcc, -crt, -runtime, -cccl,
nvidia-nvvm; one to two minutes and up to 6 GB of memory each; `--keep DIR` keeps the cubins and reuses them),
for one tile and one output dtype, and prints a table. No GPU is needed, and nothing is run: the figures say how
many instructions a block's warps issue for each MMA, not how long they take.

Ours are the kernels that a pack holds and, for sm_100, the loop that sm_120 has there, for comparison.

How it counts: the main loop is the innermost loop (a backward branch) that holds the MMA; where loads have a
warp of their own, its loop is the innermost one with as many TMA loads as there are operands, and counts once.
A stretch of the loop that a branch skips and that holds a tcgen05 MMA is one warp's; all else is counted for each
warp that runs the loop.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.kernels.disassembly import find_tool, inspect_cubin
from nvfp4_trt.kernels.sources import GEMM_SOURCE, SOURCES
from nvfp4_trt.kernels.triton_compiler import compile_gemm

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)\s*([^;]*);", re.MULTILINE)
MMA = ("OMMA", "UTCOMMA")
# Of an SM: 32-bit registers, shared memory in bytes, threads (CUDA C++ programming guide, compute capabilities).
LIMITS = {100: (65536, 233472, 2048), 120: (65536, 102400, 1536)}
OURS = {120: ("128x128x128", "128x128x256"), 100: ("128x128x128", "128x128x256")}
# Which CUTLASS tile stands beside each of ours: its sm_100 kernel steps by 256.
PEER = {(120, "128x128x128"): "128x128x128", (120, "128x128x256"): "128x128x256"}
CUTLASS_MMA_WARPS = {100: 1, 120: 8}


class Instruction(NamedTuple):
    """One line of a disassembly."""

    address: int
    opcode: str
    operands: str


class Figures(NamedTuple):
    """One row of the table."""

    kernel: str
    sm: int
    tile: str
    slots: int
    mmas: int
    registers: int
    shared_bytes: int
    threads: int

    @property
    def slots_per_mma(self) -> float:
        """Instructions that a block's warps issue for each of its MMAs."""
        return self.slots / self.mmas

    @property
    def blocks_per_sm(self) -> int:
        """Blocks that fit an SM at once; a block's shared memory has 1,024 bytes more, the system's."""
        registers, shared, threads = LIMITS[self.sm]
        by_registers = registers // (-(-self.registers // 8) * 8 * self.threads)
        return min(by_registers, shared // (self.shared_bytes + 1024), threads // self.threads)


def disassemble(cubin: Path) -> list[Instruction]:
    command = [str(find_tool("cuobjdump")), "-sass", str(cubin)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [Instruction(int(address, 16), opcode, rest) for address, opcode, rest in LINE.findall(text)]


def target(instruction: Instruction) -> int | None:
    found = re.search(r"0x([0-9a-f]+)", instruction.operands) if instruction.opcode.startswith("BRA") else None
    return int(found[1], 16) if found else None


def named(body: list[Instruction], *names: str) -> int:
    return sum(each.opcode.split(".")[0] in names for each in body)


def loops(code: list[Instruction]) -> list[list[Instruction]]:
    """Return the bodies of all backward branches but those that a warp waits in, shortest first."""
    ends = [(to, each.address) for each in code if (to := target(each)) is not None and to < each.address]
    bodies = [[each for each in code if start <= each.address <= end] for start, end in set(ends)]
    return sorted(bodies, key=len)


def mma_slots(body: list[Instruction], warps: int) -> tuple[int, int]:
    """Return `(issue slots, MMAs)` of one pass of a block's warps through the main loop."""
    alone: set[int] = set()
    for each in body:
        to = target(each)
        if to is not None and each.address < to <= body[-1].address:
            skipped = [other for other in body if each.address < other.address < to]
            if named(skipped, "UTCOMMA"):
                alone |= {other.address for other in skipped}
    shared = [each for each in body if each.address not in alone]
    mmas = named(body, "UTCOMMA") + warps * named(body, "OMMA")
    return len(alone) + warps * len(shared), mmas


def count(code: list[Instruction], warps: int) -> tuple[int, int]:
    """Return `(issue slots, MMAs)` of one step of K, over all of a block's warps."""
    every = loops(code)
    main = next(body for body in every if named(body, *MMA))
    slots, mmas = mma_slots(main, warps)
    if not named(main, "LDGSTS", "UTMALDG"):
        slots += len(next(body for body in every if named(body, "UTMALDG") == 4 and not named(body, *MMA)))
    return slots, mmas


def figures(kernel: str, sm: int, tile: str, cubin: Path, shared: int, threads: int, warps: int) -> Figures:
    (contents,) = inspect_cubin(cubin).values()
    slots, mmas = count(disassemble(cubin), warps)
    return Figures(kernel, sm, tile, slots, mmas, contents.registers, shared, threads)


def ours(sm: int, tile: str, folder: Path, *, like: int | None = None) -> Figures:
    made = compile_gemm(SOURCES / GEMM_SOURCE, tile, "bf16", sm, like=like)
    cubin = folder / f"triton.{tile}.{sm}{'' if like is None else f'.like{like}'}.cubin"
    cubin.write_bytes(made.cubin)
    name = "shipped (Triton)" if like is None else f"sm_{like}'s loop (Triton)"
    # Where TMA loads, one warp issues the MMAs; else all do what the loop says.
    warps = 1 if made.tile.scratch_bytes else made.tile.warps
    return figures(name, sm, tile, cubin, made.tile.shared_bytes, made.tile.warps * 32, warps)


def cutlass(sm: int, tile: str, folder: Path, nvcc: str, includes: Sequence[str]) -> Figures:
    cubin = folder / f"cutlass.{tile}.{sm}.cubin"
    if not cubin.exists():
        m, n, k = tile.split("x")
        sizes = [f"-DTILE_M={m}", f"-DTILE_N={n}", f"-DTILE_K={k}", *(["-DON_SM100"] if sm == 100 else [])]
        flags = ["-cubin", f"-gencode=arch=compute_{sm}a,code=sm_{sm}a", "-std=c++17", "-O3",
                 "--expt-relaxed-constexpr"]  # fmt: skip
        source = str(HERE / "cutlass_gemm.cu")
        command = [nvcc, *flags, *sizes, *(f"-I{each}" for each in includes), "-o", str(cubin), source]
        subprocess.run(command, check=True)
    shared, threads = launch_constants(cubin)
    return figures("CUTLASS", sm, tile, cubin, shared, threads, CUTLASS_MMA_WARPS[sm])


def launch_constants(cubin: Path) -> tuple[int, int]:
    """Return the two constants of `cutlass_gemm.cu`, from the cubin's own constant bank."""
    command = [str(find_tool("cuobjdump")), "-elf", str(cubin)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    words = re.search(r"^\.nv\.constant3\s*\n(0x\w+)\s+(0x\w+)", text, re.MULTILINE)
    if words is None:
        raise SystemExit(f"{cubin} has no constants: was it compiled from cutlass_gemm.cu?")
    return int(words[1], 16), int(words[2], 16)


def report(rows: list[Figures]) -> None:
    peers = {(each.sm, each.tile): each for each in rows if each.kernel == "CUTLASS"}
    print("| SM | tile | kernel | slots a step | MMAs a step | slots/MMA | to CUTLASS | registers | shared | "
          "threads | blocks/SM |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for each in sorted(rows, key=lambda row: (row.sm, row.tile, row.kernel)):
        peer = peers.get((each.sm, PEER.get((each.sm, each.tile), "128x128x256")))
        ratio = f"{each.slots_per_mma / peer.slots_per_mma:.2f}" if peer else "-"
        cells = [each.sm, each.tile, each.kernel, each.slots, each.mmas, f"{each.slots_per_mma:.2f}", ratio,
                 each.registers, each.shared_bytes, each.threads, each.blocks_per_sm]  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", help="without it, only ours is shown")
    parser.add_argument(
        "--cutlass-include", action="append", default=[], help="CUTLASS's and the CUDA headers' folders"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the cubins")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [ours(sm, tile, folder) for sm, tiles in OURS.items() for tile in tiles]
        rows.append(ours(100, "128x128x256", folder, like=120))
        if given.nvcc:
            tiles = [(120, "128x128x128"), (120, "128x128x256"), (100, "128x128x256")]
            rows += [cutlass(sm, tile, folder, given.nvcc, given.cutlass_include) for sm, tile in tiles]
        report(rows)
    if given.json:
        given.json.write_text(json.dumps([row._asdict() | {"blocks_per_sm": row.blocks_per_sm} for row in rows]))


if __name__ == "__main__":
    main()
