"""Damage estimated to first order: all layers at once, whatever their number.

With `e` the error that quantizing a layer makes at its own output, and `J` the derivative of the model's output
with respect to that place, the error at the model's output is `J e` to first order. `J` is never formed: for a
random vector `v` with independent standard normal elements, `E[(vᵀ J e)²] = ‖J e‖²` (Hutchinson's estimator of a
trace, here that of `J e eᵀ Jᵀ`), and `vᵀ J` is what one backward pass brings to every layer at once.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Self

import torch

from nvfp4_trt.comparison.result import SQNR_LIMIT, sqnr_db
from nvfp4_trt.errors import ModelRunError
from nvfp4_trt.loading import flatten_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.mixing.reference import Reference
    from nvfp4_trt.mixing.switchable import Switchable

PROBES = 64
"""Backward passes in all, spread over the batches, at least one each: the estimate of a layer's noise is then
within √(2/64) = 18 %, 0.8 dB, of its expectation (one standard deviation of a χ² with as many degrees)."""


def estimated(model: Switchable, reference: Reference, progress: Callable[[int, int], None]) -> dict[str, float]:
    """Return for each layer the estimated SQNR of the output, dB, with that layer quantized alone.

    Of several outputs, each one's noise counts in units of its own signal, and is summed. The random vectors are
    drawn on the CPU from a fixed seed.

    Raises:
        ModelRunError: the model cannot be differentiated.
    """
    powers = {name: power for name, power in reference.signal.items() if power > 0}
    least = min(powers.values(), default=1.0)
    weights = {name: math.sqrt(least / power) for name, power in powers.items()}
    generator = torch.Generator().manual_seed(0)
    probes = max(1, math.ceil(PROBES / len(reference.batches)))
    noise = dict.fromkeys(model.names, 0.0)
    total = probes * len(reference.batches)
    for number, batch in enumerate(reference.batches):
        with _Recorded(model) as recorded:
            outputs = _run(model.module, batch)
            for probe in range(probes):
                progress(number * probes + probe, total)
                goal = _projected(outputs, weights, generator)
                for name, product in recorded.products(goal).items():
                    noise[name] += product**2 / probes
    found = {name: sqnr_db(least, power) for name, power in noise.items()}
    return {name: -SQNR_LIMIT if math.isnan(value) else value for name, value in found.items()}


class _Recorded:
    """While it is entered, each float layer keeps its own quantization error, and a place for a derivative."""

    def __init__(self, model: Switchable) -> None:
        self._model = model
        self._handles = contextlib.ExitStack()
        self._errors: list[tuple[str, Tensor]] = []
        self._places: list[Tensor] = []

    def __enter__(self) -> Self:
        self._model.arrange({})
        for name in self._model.names:
            handle = self._model.form(name, "model").register_forward_hook(self._hook(name), with_kwargs=True)
            self._handles.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def _hook(self, name: str) -> Callable[..., Tensor]:
        quantized = self._model.form(name, "nvfp4")

        def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            with torch.no_grad():
                # Not called as a module: it shares its hooks, this one included, with the float layer.
                error = quantized.forward(*args, **kwargs) - output
            place = torch.zeros_like(output, requires_grad=True)
            self._errors.append((name, error))
            self._places.append(place)
            return output + place

        return keep

    def products(self, goal: Tensor) -> dict[str, float]:
        """Return for each layer `(∂ goal / ∂ its output) · its error`, over all of its calls."""
        gradients = torch.autograd.grad(goal, self._places, retain_graph=True, allow_unused=True)
        found: dict[str, float] = {}
        for (name, error), gradient in zip(self._errors, gradients, strict=True):
            if gradient is not None:
                product = torch.sum(gradient.float() * error.float()).item()
                found[name] = found.get(name, 0.0) + product
        return found


def _run(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    try:
        with torch.enable_grad():
            outputs = flatten_outputs(module(**batch))
    except RuntimeError as error:
        raise _not_differentiable(str(error)) from error
    if not any(tensor.requires_grad for tensor in outputs.values()):
        raise _not_differentiable("no output depends on a layer in a way that torch.autograd follows")
    return outputs


def _not_differentiable(reason: str) -> ModelRunError:
    line = reason.strip().split("\n", maxsplit=1)[0]
    return ModelRunError(
        f"an estimate needs the model's derivative, and there is none: {line}", "measure with --method exact"
    )


def _projected(outputs: Mapping[str, Tensor], weights: Mapping[str, float], generator: torch.Generator) -> Tensor:
    """Return the outputs' inner product with random vectors."""
    parts = []
    for name, output in outputs.items():
        if output.requires_grad and name in weights:
            drawn = torch.randn(output.shape, generator=generator).to(output.device)
            parts.append(torch.sum(output.float() * drawn) * weights[name])
    return torch.stack(parts).sum()
