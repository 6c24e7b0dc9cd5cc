"""Several compiling processes at a time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from nvfp4_trt import errors
from nvfp4_trt.errors import KernelCompileError, Nvfp4Error
from nvfp4_trt.kernels.worker import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from nvfp4_trt.kernels.pack import KernelFile
    from nvfp4_trt.kernels.worker import Job

WORKERS = 2

_TAIL = 12
_BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Nvfp4Error)
}


def make_cubins(jobs: Sequence[Job], progress: Callable[[int, int], None]) -> tuple[KernelFile, ...]:
    """Run jobs in processes of their own.

    Args:
        jobs: what to compile.
        progress: called after each job with how many are done, and how many there are.

    Returns:
        The records, in the order of the jobs.

    Raises:
        Nvfp4Error: what the first job that failed reported; the others are given up.
    """
    pool = Pool(min(WORKERS, len(jobs)))
    with pool, ThreadPoolExecutor(WORKERS) as threads:
        futures = [threads.submit(pool.run, job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done, len(jobs))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.stop()
            raise
    return tuple(future.result() for future in futures)


class Pool:
    """Compiling processes, each of which takes one job at a time.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        # Open until the pool ends. Each process adds to its end.
        self._log = tempfile.TemporaryFile("a+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        # A developer's settings of Triton would change the bytes.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")}
        self._all = [self._start(environment) for _ in range(size)]

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "nvfp4_trt.kernels.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C is for the program that asked
        )
        self._free.put(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for child in self._all:
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what a dead process never read
                        pipe.close()
        self._log.close()

    def stop(self) -> None:
        """End every process, whatever it is doing."""
        for child in self._all:
            child.kill()
            child.wait()

    def run(self, job: Job) -> KernelFile:
        """Give a job to a free process and wait for its answer.

        Raises:
            KernelCompileError: the process died; the message ends with what it printed last.
            Nvfp4Error: what the process reported.
        """
        child = self._free.get()
        try:
            answer = self._ask(child, job)
        finally:
            self._free.put(child)
        if answer.made is not None:
            return answer.made
        raise _BY_CODE[answer.error](answer.message, answer.hint)

    def _ask(self, child: subprocess.Popen[str], job: Job) -> Answer:
        if child.stdin is None or child.stdout is None:
            raise TypeError("the process was started without pipes")
        try:
            child.stdin.write(job.model_dump_json() + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise KernelCompileError(
                f"the process that compiles {job.file} died; the end of what it printed:\n{self._tail()}",
                "report it; --kernel and --sm leave other kernels out",
            )
        return Answer.model_validate_json(line)

    def _tail(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-_TAIL:])
