"""Observing what enters each layer, for static activation scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvfp4_trt.errors import InputsMissingError, NonfiniteCalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn
    from torch.utils.hooks import RemovableHandle


def input_amaxes(
    module: nn.Module, names: Sequence[str], batches: Iterable[dict[str, Tensor]]
) -> dict[str, float]:
    """Run every batch and return amax(|input|) of each named layer.

    The maximum does not depend on the order of the batches.

    Args:
        module: the unquantized module, in evaluation mode.
        names: qualified names of layers that take their activation as first argument.
        batches: inputs by the names of the forward's parameters; any number above zero.

    Raises:
        InputsMissingError: there was no batch, or a layer never ran.
        NonfiniteCalibrationError: NaN or infinity entered a layer; names the layer and the batch.
    """
    amaxes: dict[str, float] = {}
    handles: list[RemovableHandle] = []
    count = 0
    try:
        for name in names:
            handles.append(module.get_submodule(name).register_forward_pre_hook(_observer(name, amaxes)))
        with torch.no_grad():
            for count, batch in enumerate(batches, start=1):  # noqa: B007 (counted for the errors)
                module(**batch)
    except _NonfiniteInputError as found:
        raise NonfiniteCalibrationError(
            f"NaN or infinity entered the layer {found.name} in calibration batch {count or 1}",
            "look for overflow in this dtype or for broken inputs; the layers before it passed",
        ) from found
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise InputsMissingError(
            "static scales need calibration inputs, and no batch was given", "give --inputs"
        )
    silent = [name for name in names if name not in amaxes]
    if silent:
        raise InputsMissingError(
            f"the layer {silent[0]} never ran on the calibration inputs ({len(silent)} such layers)",
            f"give inputs that reach it, or leave it out with --exclude {silent[0]!r}",
        )
    return amaxes


class _NonfiniteInputError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _observer(name: str, amaxes: dict[str, float]):  # type: ignore[no-untyped-def]  # noqa: ANN202 (a hook)
    def observe(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        amax = args[0].detach().abs().amax().float().item()
        if not amax < float("inf"):
            raise _NonfiniteInputError(name)
        amaxes[name] = max(amax, amaxes.get(name, 0.0))

    return observe
