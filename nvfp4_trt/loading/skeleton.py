"""Modules without their weights: built with parameters on the meta device, and buffers as they are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Let every parameter that a module registers be one without data; one that is shared stays shared.

    Buffers (positions, rotary frequencies) keep their values: a checkpoint need not have them.
    """
    twins = WeakTensorKeyDictionary()

    def replace(_module: nn.Module, _name: str, parameter: Tensor | None) -> Tensor | None:
        if type(parameter) is not nn.Parameter or parameter.is_meta:
            return parameter
        if parameter not in twins:
            empty = torch.empty_like(parameter, device="meta")
            twins[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        twin: Tensor = twins[parameter]
        return twin

    handle = register_module_parameter_registration_hook(replace)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def depends_on_weights(module: nn.Module) -> bool:
    """Return whether something in a module was computed from parameters that had no data."""
    held = (value for child in module.modules() for value in (*child._buffers.values(), *vars(child).values()))  # noqa: SLF001
    return any(isinstance(value, Tensor) and value.is_meta for value in held)
