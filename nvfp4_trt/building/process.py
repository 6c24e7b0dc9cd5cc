"""Running the child process that builds: its crash, its errors and Ctrl-C all end in one clear way."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from nvfp4_trt import errors
from nvfp4_trt.building.spec import BuildResult
from nvfp4_trt.errors import BuildCrashedError, DiskFullError, Nvfp4Error

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.building.spec import BuildSpec

_TAIL = 12
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Nvfp4Error)
}


def run_build(spec: BuildSpec, folder: Path) -> BuildResult:
    """Run one build in a process of its own.

    Args:
        spec: what to build.
        folder: where the two ends leave their notes for each other.

    Raises:
        BuildCrashedError: the process died; the message has its signal and the log's last lines.
        Nvfp4Error: what the child reported.
    """
    spec_file, result_file, output = folder / "spec.json", folder / "result.json", folder / "output.txt"
    spec_file.write_text(spec.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "nvfp4_trt.building.worker", str(spec_file), str(result_file)]
    with output.open("w", encoding="utf-8") as sink:
        child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
    if status != 0 or not result_file.is_file():
        raise _crash(spec, status, output)
    result = BuildResult.model_validate_json(result_file.read_text(encoding="utf-8"))
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
    return BuildCrashedError(
        f"the process that runs {spec.backend} {how}; the end of its log:\n{tail}",
        "report it with the log (--log FILE); a layer left out with --exclude at export may get around it",
    )
