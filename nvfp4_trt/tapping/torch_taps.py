"""Tapping a torch module: hooks at its layers' doors, and its layers on inputs of one's own."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nvfp4_trt.quantization.select import entering
from nvfp4_trt.quantization.transforms import low_rank, smoothing
from nvfp4_trt.runners import TorchRunner, as_numpy
from nvfp4_trt.tapping.calls import Call, input_tap, output_tap
from nvfp4_trt.tapping.points import Form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.runners.arrays import Feed


class TappedRunner(TorchRunner):
    """Runs a module, and returns beside its outputs what entered and left some of its layers.

    What enters is what the layer is called with, before hooks change it; what leaves is what its caller gets.

    Args:
        module: a module in eval mode.
        example: see `TorchRunner`.
        layers: the layers to tap, by qualified name.
        name: see there.
    """

    def __init__(self, module: nn.Module, example: Batch, layers: Mapping[str, nn.Module], *, name: str) -> None:
        super().__init__(module, example, name=name)
        self._layers = layers
        self.calls: list[Call] = []
        """Those of the last inference, in the order in which they were made."""
        self.entered: dict[str, Tensor] = {}
        """Empty tensors with the dtype and rank of what entered each, by the tap's name."""

    def infer_impl(self, feed_dict: Feed) -> Feed:
        """See `TorchRunner.infer_impl`; the taps come first."""
        taps: Feed = {}
        self.calls.clear()

        def enters(call: Call, x: Tensor) -> None:
            self.calls.append(call)
            self.entered[input_tap(call)] = x.new_empty((0,) * x.dim(), device="cpu")
            taps[input_tap(call)] = as_numpy(x.detach().clone())  # what follows may change it in place

        def leaves(call: Call, y: Tensor) -> None:
            taps[output_tap(call)] = as_numpy(y.detach().clone())

        with _hooked(self._layers, enters, leaves):
            outputs = super().infer_impl(feed_dict)
        return {**taps, **outputs}


@contextmanager
def _hooked(
    layers: Mapping[str, nn.Module],
    enters: Callable[[Call, Tensor], None],
    leaves: Callable[[Call, Tensor], None],
) -> Iterator[None]:
    counts: Counter[str] = Counter()
    handles = []

    def hook(name: str, module: nn.Module) -> None:
        def before(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            counts[name] += 1
            enters(Call(name, counts[name]), entering(args, kwargs))

        def after(_: nn.Module, _args: tuple[Tensor, ...], y: Tensor) -> None:
            leaves(Call(name, counts[name]), y)

        handles.append(module.register_forward_pre_hook(before, prepend=True, with_kwargs=True))
        handles.append(module.register_forward_hook(after))

    try:
        for name, module in layers.items():
            hook(name, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


class LayersAlone(nn.Module):
    """A model's layers and nothing between them: `NAME:input` in, `NAME:output` out.

    Args:
        layers: by qualified name.
        calls: what to compute.
    """

    def __init__(self, layers: Mapping[str, nn.Module], calls: Sequence[Call]) -> None:
        super().__init__()
        self._calls = tuple(calls)
        self._positions = {name: index for index, name in enumerate(layers)}
        self.layers = nn.ModuleList(layers.values())

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return what leaves each layer for what is given to it."""
        return {
            output_tap(call): self.layers[self._positions[call.layer]](inputs[input_tap(call)])
            for call in self._calls
        }


def form_of(module: nn.Module) -> Form:
    """Return what stands around a quantized layer's GEMM."""
    buffers = dict(module.named_buffers(recurse=False))
    bias: torch.Tensor | None = getattr(module, "bias", None)
    return Form(
        bias=bias is not None,
        smoothed=any(name in buffers for name in smoothing.BUFFERS),
        branch=any(name in buffers for name in low_rank.BUFFERS),
    )
