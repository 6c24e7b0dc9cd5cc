"""SHA-256 of what a model was loaded from, so that a report can name it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.loading.loaded import Batch


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


def hash_meanwhile(paths: Sequence[Path]) -> Callable[[], str]:
    """Start `hash_files` in a thread, which holds no lock while it hashes; the result waits for its end."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hashing")
    hashed = pool.submit(hash_files, paths)
    pool.shutdown(wait=False)
    return hashed.result


def hash_module(module: nn.Module) -> str:
    """Return the SHA-256 of a module's state dict: names, dtypes, shapes and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, torch.Tensor):  # `get_extra_state` may return anything: it is no weight
            _add(digest, name, tensor)
    return digest.hexdigest()


def hash_batches(batches: Iterable[Batch]) -> str:
    """Return the SHA-256 of example inputs: each batch's names, dtypes, shapes and bytes, in order."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(b"batch\n")
        for name, tensor in sorted(batch.items()):
            _add(digest, name, tensor)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, tensor: torch.Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    if not tensor.is_meta:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
