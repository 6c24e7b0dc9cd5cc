"""Quantizing a model's layers one after another, each for the inputs that the quantized ones below it give."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from nvfp4_trt.errors import InputsMissingError, NonfiniteCalibrationError
from nvfp4_trt.loading.stored import releasing
from nvfp4_trt.quantization.methods.moments import HALVES, Agreement, Moments
from nvfp4_trt.quantization.replay import Replay, Run, redirect
from nvfp4_trt.quantization.select import entering, weight_nk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization.modules import ActivationQuantizer, QuantLinear

_MASK = "attention_mask"
"""The input whose zeros say which tokens are padding, as Hugging Face names it."""


class Stage(NamedTuple):
    """Layers that read one tensor, and what is known of it; None where no layer's method asks."""

    layers: tuple[str, ...]
    moments: Moments | None


class Layerwise:
    """A model on its way from float to quantized, whose layers are replaced in the order in which they run.

    A context, which leaves the model as it was.

    Args:
        root: the module. The forwards of its layers and blocks are redirected meanwhile.
        quantizers: what quantizes the input of each layer that is to be replaced, by the layers' names.
        needed: the layers among these whose method looks at inputs.
        batches: calibration inputs by the names of the forward's parameters, at least one.
    """

    def __init__(
        self,
        root: nn.Module,
        quantizers: Mapping[str, ActivationQuantizer],
        needed: Collection[str],
        batches: Sequence[Batch],
    ) -> None:
        self._root, self._quantizers, self._needed, self._batches = root, quantizers, needed, batches
        self._made: dict[str, QuantLinear] = {}
        self._calls: Counter[tuple[str, int]] = Counter()
        self._now = Run(0, quantized=False)
        self._see: Callable[[str, Tensor], None] = lambda _name, _x: None
        self._agreement = Agreement()

    def __enter__(self) -> Self:
        self._undo = ExitStack()
        self._replay = Replay(self._root, self._quantizers, self._undo)
        for name in self._quantizers:
            module = self._root.get_submodule(name)
            redirect(module, self._watched(name, module.forward), self._undo)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def stages(self) -> Iterator[Stage]:
        """Yield the layers in the order of running; each must be replaced before the next stage is asked for.

        Raises:
            InputsMissingError: a layer of `needed` never ran.
            NonfiniteCalibrationError: NaN or infinity entered a layer; names the layer and the batch.
            InputsMismatchError, ModelRunError: the module raised on a batch.
        """
        with releasing(self._root):
            for names in self._order():
                looked_at = any(name in self._needed for name in names)
                yield Stage(names, self._moments(names[0]) if looked_at else None)

    def replace(self, name: str, made: QuantLinear) -> None:
        """Run a layer in its quantized form from now on."""
        self._made[name] = made
        self._replay.done(name)

    def _watched(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Tensor, **kwargs: Tensor) -> Any:
            x = entering(args, kwargs)
            self._see(name, x.detach())
            if self._now.quantized and name in self._made:
                return self._made[name].forward(x)  # the layer's own hooks run around this
            return forward(*args, **kwargs)

        return run

    def _run(self, now: Run, see: Callable[[str, Tensor], None]) -> None:
        self._now, self._see = now, see
        self._replay.run(self._batches[now.number], now)

    def _order(self) -> list[tuple[str, ...]]:
        """Run the float model on every batch; return the layers in the order of running, by what they read."""
        read: dict[str, Tensor] = {}  # of the first batch; kept, so that no other tensor takes its address
        broken: list[str] = []
        for number in range(len(self._batches)):

            def see(name: str, x: Tensor, number: int = number) -> None:
                self._calls[name, number] += 1
                if not float(x.abs().amax()) < math.inf:  # True for NaN as well
                    broken.append(name)
                if number == 0:
                    read.setdefault(name, x)

            self._run(Run(number, quantized=False), see)
            if broken:
                raise NonfiniteCalibrationError.entering(broken[0], number + 1)
        silent = [name for name in self._quantizers if name in self._needed and name not in read]
        if silent:
            raise InputsMissingError(
                f"the layer {silent[0]} never ran on the first batch of inputs ({len(silent)} such layers)",
                f"give inputs that reach it, leave it out with --exclude {silent[0]!r}, or choose mse for it",
            )
        groups: dict[tuple[object, ...], list[str]] = {}
        for name, x in read.items():
            groups.setdefault((x.data_ptr(), x.shape, x.stride(), x.dtype), []).append(name)
        return [tuple(names) for names in groups.values()]

    def _moments(self, name: str) -> Moments:
        weight = weight_nk(self._root.get_submodule(name))
        moments = Moments(weight.shape[1], weight.device, self._agreement)
        for number, batch in enumerate(self._batches):
            unquantized = self._inputs(Run(number, quantized=False, target=name))
            for seen, other in zip(
                self._inputs(Run(number, quantized=True, target=name)), unquantized, strict=True
            ):
                rows = _tokens(batch, seen)
                for half, (own, floats) in self._halves(number, rows(self._quantizers[name](seen)), rows(other)):
                    moments.add(own, floats, half)
        return moments

    def _halves(self, number: int, *rows: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Yield a batch's rows with the half of the data that they belong to.

        It is that of the first batches or of the last, as neighbours are alike. A single batch's rows are halved.
        """
        if len(self._batches) > 1:
            yield number * HALVES // len(self._batches), rows
        else:
            yield from enumerate(zip(*(torch.tensor_split(x, HALVES) for x in rows), strict=True))

    def _inputs(self, now: Run) -> list[Tensor]:
        """Return what enters the run's target, each time that it runs."""
        found: list[Tensor] = []

        def see(layer: str, x: Tensor) -> None:
            if layer == now.target:
                found.append(x)
                if len(found) == self._calls[layer, now.number]:
                    self._replay.stop()

        if self._calls[now.target, now.number]:
            self._run(now, see)
        return found


def _tokens(batch: Batch, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what makes rows `[rows, K]` of a tensor shaped like this layer input, without those of padding."""
    mask = batch.get(_MASK)
    if mask is None or mask.shape != x.shape[:-1]:
        return lambda t: t.reshape(-1, t.shape[-1])
    kept = mask.to(device=x.device, dtype=torch.bool)
    return lambda t: t[kept]
