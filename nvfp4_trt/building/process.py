"""Child processes that build: a crash, their errors and Ctrl-C all end in one clear way."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt import errors
from nvfp4_trt.building.spec import BuildResult
from nvfp4_trt.errors import BuildCrashedError, DiskFullError, Nvfp4Error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nvfp4_trt.building.spec import BuildSpec

AT_ONCE = 2
"""Builds that run beside each other: one takes a single core, and memory of about 3.2 times the packed weights."""
_TAIL = 12
_POLL = 0.02
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Nvfp4Error)
}


class Job(NamedTuple):
    """A build that may run beside others."""

    spec: BuildSpec
    folder: Path
    """Where parent and child leave their notes for each other."""
    optional: bool = False
    """Whether it ends when the time is over."""


Outcome = BuildResult | Nvfp4Error | None
"""How a build ended; None where its time was over."""


def run_build(spec: BuildSpec, folder: Path) -> BuildResult:
    """Run one build in a process of its own.

    Args:
        spec: what to build.
        folder: where the two ends leave their notes for each other.

    Raises:
        BuildCrashedError: the process died; the message has its signal and the log's last lines.
        Nvfp4Error: what the child reported.
    """
    child = _Child(spec, folder)
    try:
        return child.result()
    finally:
        child.stop()


def run_builds(jobs: Iterable[Job], until: float = math.inf) -> list[Outcome]:
    """Run builds, `AT_ONCE` beside each other, each in a process of its own.

    Args:
        jobs: taken one by one as a process becomes free, so that preparing one overlaps with building another.
        until: when the time of optional ones is over, by `time.monotonic`: those that run are stopped, and those
            that wait are not begun.

    Returns:
        How each ended, in the order of the jobs.
    """
    outcomes: list[Outcome] = []
    running: dict[int, tuple[Job, _Child]] = {}
    try:
        for index, job in enumerate(jobs):
            outcomes.append(None)
            if not (job.optional and time.monotonic() >= until):
                running[index] = job, _Child(job.spec, job.folder)
            _wait(running, outcomes, until, fewer_than=AT_ONCE)
        _wait(running, outcomes, until, fewer_than=1)
    finally:
        for _, child in running.values():
            child.stop()
    return outcomes


def _wait(
    running: dict[int, tuple[Job, _Child]], outcomes: list[Outcome], until: float, *, fewer_than: int
) -> None:
    """Collect what has ended, until fewer than so many run."""
    while len(running) >= fewer_than:
        for index, (job, child) in list(running.items()):
            if child.ended():
                outcomes[index] = child.outcome()
            elif job.optional and time.monotonic() >= until:
                child.stop()
            else:
                continue
            del running[index]
        if len(running) >= fewer_than:
            time.sleep(_POLL)


class _Child:
    """A process that builds, from its start on."""

    def __init__(self, spec: BuildSpec, folder: Path) -> None:
        self._spec, self._result, self._output = spec, folder / "result.json", folder / "output.txt"
        told = folder / "spec.json"
        told.write_text(spec.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", "nvfp4_trt.building.worker", str(told), str(self._result)]
        with self._output.open("w", encoding="utf-8") as sink:
            self._process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it at once, if it has not ended."""
        if not self.ended():
            self._process.kill()
            self._process.wait()

    def outcome(self) -> Outcome:
        try:
            return self.result()
        except Nvfp4Error as error:
            return error

    def result(self) -> BuildResult:
        status = self._process.wait()
        if status != 0 or not self._result.is_file():
            raise _crash(self._spec, status, self._output)
        result = BuildResult.model_validate_json(self._result.read_text(encoding="utf-8"))
        if result.error:
            raise _BY_CODE[result.error](result.message, result.hint)
        return result


def _crash(spec: BuildSpec, status: int, output: Path) -> Nvfp4Error:
    told = output.read_text(encoding="utf-8", errors="replace").splitlines()
    if any(full in line for line in told for full in _FULL):
        return DiskFullError(f"no space left while building from {spec.model.name}", "free some space")
    logged = spec.log.read_text(encoding="utf-8", errors="replace").splitlines() if spec.log.is_file() else []
    tail = "\n".join([*logged[-_TAIL:], *told[-_TAIL:]])
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    many = "" if len(spec.profiles) <= 1 else "; so may fewer profiles in one engine (without --share-weights)"
    return BuildCrashedError(
        f"the process that runs {spec.backend} {how}; the end of its log:\n{tail}",
        f"report it with the log (--log FILE); a layer left out with --exclude at export may get around it{many}",
    )
