"""Naming a model's outputs: the names that an exported file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.errors import ModelRunError

if TYPE_CHECKING:
    from collections.abc import Iterator


def flatten_outputs(output: Any) -> dict[str, torch.Tensor]:
    """Return a forward's output as tensors by name, in order.

    A tensor is `output`; a tuple or list gives `output_0`, `output_1`, ...; a mapping (a Hugging Face
    `ModelOutput` is one) gives its keys. Below those, positions and keys are appended with `_`. None is
    passed over, and does not change the numbers of what follows it.

    Args:
        output: what the forward returned.

    Raises:
        ModelRunError: a leaf is no tensor, such as a key-value cache; or there is no tensor; or two leaves
            get one name.
    """
    named: dict[str, torch.Tensor] = {}
    for name, tensor in _leaves("output", output, top=True):
        if name in named:
            raise ModelRunError(
                f"two outputs of the model would both be named {name!r}", "rename a key of what it returns"
            )
        named[name] = tensor
    if not named:
        raise ModelRunError("the model returned no tensor", "return at least one tensor from its forward")
    return named


def _leaves(name: str, value: Any, *, top: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
    if value is None:
        return
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(str(key) if top else f"{name}_{key}", item)
    elif isinstance(value, (tuple, list)):
        for position, item in enumerate(value):
            yield from _leaves(f"{name}_{position}", item)
    elif "Cache" in type(value).__name__:
        raise ModelRunError(
            f"the model's output {name!r} is a key-value cache ({type(value).__name__}), which has no export",
            "set `model.config.use_cache = False`",
        )
    else:
        raise ModelRunError(
            f"the model's output {name!r} is a {type(value).__name__}, not a tensor",
            "return tensors, in tuples, lists or dictionaries",
        )
