"""The process that compiles: `python -m nvfp4_trt.kernels.worker` reads jobs, one a line, and answers each.

A compiler that crashes takes this process with it, and not the program that asked.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import KernelCompileError, Nvfp4Error
from nvfp4_trt.kernels.cuda_compiler import compile_cuda
from nvfp4_trt.kernels.disassembly import check_contents, find_fp4_opcode, inspect_cubin
from nvfp4_trt.kernels.pack import Entry, GemmTile, KernelFile
from nvfp4_trt.kernels.sources import DTYPES, GEMM_SOURCE, read_headers, target_name
from nvfp4_trt.kernels.triton_compiler import compile_gemm

if TYPE_CHECKING:
    from nvfp4_trt.kernels.disassembly import Contents

ARGUMENTS = ("args",)
"""The parameters of the kernels in CUDA C++: one structure by value."""


class Job(BaseModel):
    """One cubin to make."""

    model_config = ConfigDict(frozen=True)

    kernel: str
    dtype: str
    sm: int
    tile: str | None
    sources: Path
    folder: Path
    """Where the cubin goes."""

    @property
    def file(self) -> str:
        """The cubin's name."""
        variant = self.dtype if self.tile is None else f"{self.dtype}.{self.tile}"
        return f"{self.kernel}.{variant}.{target_name(self.sm)}.cubin"


class Answer(BaseModel):
    """What became of a job: a cubin's record, or an error's code, message and hint."""

    made: KernelFile | None = None
    error: str = ""
    message: str = ""
    hint: str = ""


def make_cubin(job: Job) -> KernelFile:
    """Compile a kernel, write its cubin, look into it, and return its record.

    Raises:
        KernelCompileError: it does not compile, or takes other parameters than it should.
        KernelSpillsError, KernelNotFp4Error: see `check_contents`.
        DependencyMissingError: a compiler or disassembler is not installed.
        DiskFullError: the disk filled up.
    """
    cubin, tile, params = _compile(job)
    with output_file(job.folder / job.file) as path:
        path.write_bytes(cubin)
    contents = inspect_cubin(job.folder / job.file)
    check_contents(job.file, job.kernel, job.sm, contents)
    for name, entry in contents.items():
        if entry.params != len(params):
            raise KernelCompileError(
                f"{job.file}: {name} takes {entry.params} parameters, and {len(params)} are expected",
                "install the compiler that this version was tested with (constraints.txt)",
            )
    return KernelFile(
        file=job.file,
        sha256=hashlib.sha256(cubin).hexdigest(),
        kernel=job.kernel,
        dtype=job.dtype,
        sm=job.sm,
        entries=tuple(_entry(name, entry) for name, entry in contents.items()),
        fp4_opcode=find_fp4_opcode(contents, job.sm),
        opcodes=_totals(contents),
        tile=tile,
        params=params,
    )


def _compile(job: Job) -> tuple[bytes, GemmTile | None, tuple[str, ...]]:
    if job.tile is not None:
        return compile_gemm(job.sources / GEMM_SOURCE, job.tile, job.dtype, job.sm)
    source = job.sources / f"{job.kernel}.cu"
    cubin = compile_cuda(
        source.read_text(encoding="utf-8"),
        source.name,
        read_headers(job.sources),
        job.sm,
        {"NVFP4_T": DTYPES.index(job.dtype)},
    )
    return cubin, None, ARGUMENTS


def _entry(name: str, contents: Contents) -> Entry:
    return Entry(
        name=name,
        registers=contents.registers,
        shared_bytes=contents.shared_bytes,
        local_bytes=contents.local_bytes,
        max_threads=contents.max_threads,
    )


def _totals(contents: dict[str, Contents]) -> dict[str, int]:
    """Return how often each instruction stands in a whole cubin, its modifiers left away."""
    totals: Counter[str] = Counter()
    for entry in contents.values():
        for opcode, count in entry.opcodes.items():
            totals[opcode.split(".")[0]] += count
    return dict(sorted(totals.items()))


def _answer(line: str) -> Answer:
    try:
        return Answer(made=make_cubin(Job.model_validate_json(line)))
    except Nvfp4Error as error:
        return Answer(error=error.code, message=error.message, hint=error.hint)


def main() -> None:
    """Answer on standard output; whatever compilers print there goes to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            answers.write(_answer(line).model_dump_json() + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
