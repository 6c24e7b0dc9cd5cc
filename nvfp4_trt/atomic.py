"""Outputs appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.errors import DiskFullError, OutputUnwritableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_writable(path: Path) -> None:
    """Refuse an output path early, before the work that would fill it.

    Raises:
        OutputUnwritableError: the folder is missing or read-only, or the path is itself a folder.
    """
    with as_our_errors(path):
        _check_folder(path)


def _check_folder(path: Path) -> None:
    _check_parent(path)
    if path.is_dir():
        raise OutputUnwritableError(f"{path} is a folder", f"name a file in it: {path / 'model'}")


def _check_parent(path: Path) -> None:
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise OutputUnwritableError(
            f"{folder}, where {path.name} should go, is not a folder", "choose another with -o"
        )
    if not folder.is_dir():
        raise OutputUnwritableError(f"the folder {folder} of {path.name} does not exist", f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUnwritableError(f"the folder {folder} cannot be written to", "choose another with -o")


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success all files in it move to `path`'s folder.

    The file named as `path` moves last, so that where it exists, what belongs to it exists too. On any
    exception, Ctrl-C included, the folder and all in it disappear.

    Raises:
        OutputUnwritableError: see `check_writable`.
        DiskFullError: the disk filled up while writing.
    """
    check_writable(path)
    with as_our_errors(path):
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with as_our_errors(path):
            yield scratch
            for made in sorted(scratch.iterdir(), key=lambda p: p.name == path.name):
                made.replace(path.parent / made.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def output_tree(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it becomes `path`, and what was there before disappears.

    On any exception, Ctrl-C included, the new folder disappears and the old one stays as it was.

    Raises:
        OutputUnwritableError: `path` has no name of its own, is a file, or its folder cannot be written to.
        DiskFullError: the disk filled up while writing.
    """
    if path.name in {"", ".."}:
        raise OutputUnwritableError(f"{path} cannot be made anew", "name a folder in it with -o")
    with as_our_errors(path):
        _check_parent(path)
        if path.exists() and not path.is_dir():
            raise OutputUnwritableError(f"{path} is a file, and a folder goes there", "choose another with -o")
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        with as_our_errors(path):
            new.mkdir()
            yield new
            if path.exists():
                path.rename(old)  # a folder that is not empty cannot be renamed over
            try:
                new.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Yield the path to write to instead of `path`; on success it takes `path`'s place.

    Raises:
        OutputUnwritableError: see `check_writable`.
        DiskFullError: the disk filled up while writing.
    """
    with output_folder(path) as scratch:
        yield scratch / path.name


@contextmanager
def as_our_errors(path: Path) -> Iterator[None]:
    """Tell what the system says while `path`, or a scratch file for it, is written.

    Raises:
        OutputUnwritableError: it may not be written.
        DiskFullError: the disk filled up.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            free = 0
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(path.parent).free
            raise DiskFullError(
                f"no space left while writing {path} ({free / 2**20:.0f} MiB free); nothing was kept",
                "free some space, or choose another disk with -o",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}:
            raise OutputUnwritableError(
                f"cannot write {path}: {error.strerror}", "choose another with -o"
            ) from error
        raise
