"""SHA-256 of what a model was loaded from, so that a report can name it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of one file's bytes; of several, over their names and their own hashes.

    Args:
        paths: one or more files; their order does not matter.
    """
    digests = []
    for path in sorted(paths, key=lambda p: p.name):
        with path.open("rb") as file:
            digests.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests)  # what `sha256sum` prints
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_module(module: nn.Module) -> str:
    """Return the SHA-256 of a module's state dict: names, dtypes, shapes and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue  # `get_extra_state` may return anything: it is no weight
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
