"""The child process that builds an engine with several profiles, as seen from its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from pydantic import BaseModel

from nvfp4_trt import errors
from nvfp4_trt.building.spec import BuildResult, BuildSpec
from nvfp4_trt.errors import BuildCrashedError, DiskFullError, Nvfp4Error

if TYPE_CHECKING:
    from pathlib import Path

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
_TAIL = 12
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Nvfp4Error)
}


class ProfilesSpec(BaseModel):
    """One build with several optimization profiles."""

    build: BuildSpec
    """Everything else; its own profile is not used."""
    profiles: tuple[Shapes, ...]
    """Input name → smallest, preferred and largest shape, for each profile."""


def run_profiles(spec: ProfilesSpec, folder: Path) -> BuildResult:
    """Run the build in a process of its own, which TensorRT may take down.

    Args:
        spec: what to build.
        folder: where the two ends leave their notes for each other.

    Raises:
        BuildCrashedError: the process died; the message has its signal and the last lines that it wrote.
        DiskFullError: it died of a full disk.
        Nvfp4Error: what the child reported.
    """
    spec_file, result_file, output = folder / "spec.json", folder / "result.json", folder / "output.txt"
    spec_file.write_text(spec.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "nvfp4_trt.serving.worker", str(spec_file), str(result_file)]
    with output.open("w", encoding="utf-8") as sink:
        ended = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, check=False)
    if ended.returncode != 0 or not result_file.is_file():
        raise _crash(spec.build, ended.returncode, output)
    result = BuildResult.model_validate_json(result_file.read_text(encoding="utf-8"))
    if result.error:
        raise _BY_CODE[result.error](result.message, result.hint)
    return result


def _crash(spec: BuildSpec, status: int, output: Path) -> Nvfp4Error:
    if any(full in output.read_text(encoding="utf-8", errors="replace") for full in _FULL):
        return DiskFullError(f"no space left while building {spec.engine.name}", "free some space")
    logs = [file for file in (spec.log, output) if file.is_file()]
    lines = [line for file in logs for line in file.read_text("utf-8", errors="replace").splitlines()[-_TAIL:]]
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    tail = "\n".join(lines)
    return BuildCrashedError(
        f"the process that runs {spec.backend} {how}; the end of its log:\n{tail}",
        "build an engine for each bucket: drop --share-weights",
    )
