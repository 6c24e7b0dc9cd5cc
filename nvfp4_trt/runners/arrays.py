"""Tensors as the NumPy arrays that Polygraphy passes around and keeps in its JSON files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Feed = dict[str, "NDArray[np.generic]"]
"""One call's inputs, as Polygraphy takes them."""


def as_numpy(tensor: torch.Tensor) -> NDArray[np.generic]:
    """Return a tensor's values, off its device; bf16, which NumPy has not, is widened to fp32 (exact)."""
    values = tensor.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


def as_feed(batch: Mapping[str, torch.Tensor]) -> Feed:
    """Return a batch as a Polygraphy feed dictionary, see `as_numpy`."""
    return {name: as_numpy(tensor) for name, tensor in batch.items()}
