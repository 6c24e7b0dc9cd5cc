"""Reading what `torch.save` wrote: weights without running code, modules only when the file is trusted.

What runs when is measured, and written down in docs/loading.md.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import (
    DependencyMissingError,
    FileTruncatedError,
    NotAModelError,
    Nvfp4Error,
    UntrustedCodeError,
)
from nvfp4_trt.loading.disassembly import PickleNames, disassemble
from nvfp4_trt.loading.factories import current_directory_importable
from nvfp4_trt.loading.sniffing import FileKind

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = 4
# What torch's readers raise on damaged files, beside UnpicklingError.
_DAMAGE = (EOFError, OSError, RuntimeError, ValueError, LookupError, AttributeError, TypeError)


def read_pickle(path: Path, kind: FileKind, *, trust: bool) -> Any:
    """Return what a `torch.save`d file holds.

    Without trust, torch's `weights_only` unpickler reads it: tensors, numbers, text and containers, and
    no call to anything else that the file names. With trust, the whole of pickle is allowed.

    Args:
        path: the file.
        kind: `TORCH_ZIP` (memory-mapped) or `TORCH_LEGACY` (read into memory).
        trust: whether code in the file may run.

    Raises:
        UntrustedCodeError: it needs more than `weights_only` allows, and it is not trusted.
        DependencyMissingError: it is trusted, and names a class that cannot be imported.
        FileTruncatedError: it ends too early.
        NotAModelError: its pickle cannot be read.
    """
    mapped = kind is FileKind.TORCH_ZIP
    try:
        return _load(path, weights_only=True, mapped=mapped)
    except pickle.UnpicklingError as error:
        if not trust:
            raise _refusal(path, kind, error) from error
    except _DAMAGE as error:
        if not trust:
            raise _unreadable(path, error) from error
    try:
        with current_directory_importable():
            return _load(path, weights_only=False, mapped=mapped)
    except (ImportError, AttributeError) as error:
        raise DependencyMissingError(
            f"{path} names a class that cannot be imported: {first_line(error)}",
            "run this where the model's source can be imported, or add its folder to PYTHONPATH",
        ) from error
    except Exception as error:  # code from the file ran: it may raise anything
        raise _unreadable(path, error) from error


def _load(path: Path, *, weights_only: bool, mapped: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about storages of old torch versions: nothing a user can act on
        return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=mapped)


def _unreadable(path: Path, error: Exception) -> Nvfp4Error:
    text = str(error)
    if isinstance(error, EOFError) or "EOF" in text or "exhausted" in text or "truncated" in text:
        return FileTruncatedError(f"{path} ends too early ({first_line(error)})", "fetch it again")
    return NotAModelError(f"{path} cannot be read: {first_line(error)}", "save it again with torch.save")


def _refusal(path: Path, kind: FileKind, error: Exception) -> Nvfp4Error:
    """Say what the refused file is; where its opcodes do not add up, say that it is damaged."""
    try:
        names = _names(path, kind)
    except (ValueError, zipfile.BadZipFile) as damage:
        return _unreadable(path, damage)
    if names.root is not None:
        return UntrustedCodeError(
            f"{path} is a pickled object of class {names.root} (a whole nn.Module, most likely): "
            "loading it runs code that the file names",
            f"if you trust where it comes from: nvfp4-trt export {path} --trust-pickle; otherwise have its "
            "author save the weights alone: torch.save(model.state_dict(), 'weights.pt')",
        )
    listed = ", ".join(names.suspects[:_SHOWN]) or first_line(error)
    return UntrustedCodeError(
        f"{path} is a checkpoint, a state dict among other Python objects ({listed}): "
        "loading those runs code that the file names",
        f"if you trust where it comes from: nvfp4-trt export {path} --model package.module:factory "
        "--trust-pickle; otherwise have its author save the weights alone",
    )


def _names(path: Path, kind: FileKind) -> PickleNames:
    if kind is FileKind.TORCH_LEGACY:
        with path.open("rb") as file:
            return disassemble(file)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
        with archive.open(name) as file:
            return disassemble(file)
