"""Outcomes of builds, kept by content: what a lowered file became once, it becomes again."""

from __future__ import annotations

import gzip
import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from nvfp4_trt.atomic import output_file
from nvfp4_trt.building.backends import BACKENDS
from nvfp4_trt.building.spec import BuildResult
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.kernels.cached import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.building.spec import BuildSpec

FOLDER = "outcomes"
KEPT = 512
"""Files that stay in the cache; the ones used longest ago go first."""
_PACKAGES = ("{}", "{}-cu13", "{}-cu12")
"""Names that a backend's package has, whichever CUDA it is for."""


def outcome_key(spec: BuildSpec) -> str:
    """Return the key of a build's outcome: a hash of everything that it depends on, its model's weights included.

    Empty where more counts than that: on the GPU that it builds for, a backend chooses by timing; the kernels of a
    plugin are outside the file.
    """
    installed = _version(spec.backend)
    if not installed or not BACKENDS[spec.backend].cross_compiles or spec.plugin is not None:
        return ""
    told = [spec.backend, installed, spec.targets, spec.profiles]
    made = hashlib.sha256(json.dumps(told).encode())
    for path in (spec.model, spec.model.with_name(f"{spec.model.name}.data")):
        if path.is_file():
            with path.open("rb") as file:
                made.update(hashlib.file_digest(file, "sha256").digest())
    return made.hexdigest()


def recall(key: str, spec: BuildSpec) -> BuildResult | None:
    """Write an earlier build's layer record to where the build would, and return how it went.

    Returns:
        None where nothing is known, or where the file that knows it is broken.
    """
    path = cache_folder() / FOLDER / f"{key}.json.gz"
    if not key or not path.is_file():
        return None
    try:
        held = json.loads(gzip.decompress(path.read_bytes()))
        spec.record.write_text(held["record"], encoding="utf-8")
        result = BuildResult.model_validate(held["result"])
        path.touch()
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return result


def remember(key: str, spec: BuildSpec, result: BuildResult) -> None:
    """Keep a build's outcome; a cache that cannot be written is left as it is."""
    folder = cache_folder() / FOLDER
    if not key:
        return
    held = {"result": result.model_dump(), "record": spec.record.read_text(encoding="utf-8")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with output_file(folder / f"{key}.json.gz") as place:
            place.write_bytes(gzip.compress(json.dumps(held).encode(), mtime=0))
        for old in sorted(folder.iterdir(), key=_last_use, reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, Nvfp4Error):
        return


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another build has just removed it
        return 0.0


def _version(backend: str) -> str:
    for package in _PACKAGES:
        try:
            return version(package.format(backend.replace("_", "-")))
        except PackageNotFoundError:
            continue
    return ""
