"""Observing what enters each layer, for static activation scales."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from nvfp4_trt.errors import InputsMissingError, NonfiniteCalibrationError
from nvfp4_trt.loading import check_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn


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
        InputsMismatchError, ModelRunError: the module raised on a batch.
        NonfiniteCalibrationError: NaN or infinity entered a layer; names the layer and the batch.
    """
    amaxes: dict[str, float] = {}
    broken: list[str] = []
    count = 0
    with contextlib.ExitStack() as hooks:
        for name in names:
            observer = _observer(name, amaxes, broken)
            handle = module.get_submodule(name).register_forward_pre_hook(observer, with_kwargs=True)
            hooks.callback(handle.remove)
        for count, batch in enumerate(batches, start=1):
            check_runs(module, batch)
            if broken:
                raise NonfiniteCalibrationError(
                    f"NaN or infinity entered the layer {broken[0]} in calibration batch {count}",
                    "look for overflow in this dtype or for broken inputs; the layers before it passed",
                )
    if not count:
        raise InputsMissingError("static scales need calibration inputs, and no batch was given", "give --inputs")
    silent = [name for name in names if name not in amaxes]
    if silent:
        raise InputsMissingError(
            f"the layer {silent[0]} never ran on the calibration inputs ({len(silent)} such layers)",
            f"give inputs that reach it, or leave it out with --exclude {silent[0]!r}",
        )
    return amaxes


def _observer(name: str, amaxes: dict[str, float], broken: list[str]) -> Callable[..., None]:
    """Return a hook that keeps the layer's largest magnitude, and its name where it is not finite."""

    def observe(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        entering = args[0] if args else next(iter(kwargs.values()))
        amax = entering.detach().abs().amax().float().item()
        if not amax < math.inf:  # True for NaN as well
            broken.append(name)
        amaxes[name] = max(amax, amaxes.get(name, 0.0))

    return observe
