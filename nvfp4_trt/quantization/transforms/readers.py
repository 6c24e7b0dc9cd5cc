"""Which layers read one tensor, and what is known of its channels."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nvfp4_trt.errors import InputsMissingError, NonfiniteCalibrationError
from nvfp4_trt.loading import check_runs
from nvfp4_trt.loading.stored import releasing
from nvfp4_trt.quantization.select import entering, is_conv1d, weight_nk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nvfp4_trt.loading import Batch

INPUT_SCALE = "input_scale"
"""The buffer of a smoothed layer, `[K]`."""
SHARED = "its weight is shared with another layer"


@dataclass
class Readers:
    """Layers that read one tensor `[..., K]`, and sums over its rows; each fp32 `[K]`."""

    names: list[str]
    amax: Tensor
    magnitudes: Tensor
    """Σ |x|."""
    errors: Tensor
    """Σ (Q(x) - x)²."""
    rows: int = 0


def readers(
    root: nn.Module, names: Sequence[str], batches: Sequence[Batch], error: Callable[[Tensor], Tensor]
) -> list[Readers]:
    """Run every batch and return the layers by the tensor that they read in the first, in the order of running.

    Layers that read several tensors in turn belong to the group of their first one.

    Args:
        root: the module.
        names: of linear layers.
        batches: at least one.
        error: takes an input `[rows, K]`; what it returns is squared and summed for `errors`.

    Raises:
        InputsMissingError: a layer did not run on the first batch.
        InputsMismatchError, ModelRunError: the module raised on a batch.
        NonfiniteCalibrationError: NaN or infinity entered a layer; names layer and batch.
    """
    watch = _Watch(error)
    with contextlib.ExitStack() as stack, torch.no_grad():
        stack.enter_context(releasing(root))
        for name in names:
            hook = root.get_submodule(name).register_forward_pre_hook(
                watch.hook(name), with_kwargs=True, prepend=True
            )
            stack.callback(hook.remove)
        for number, batch in enumerate(batches, start=1):
            check_runs(root, batch)
            if watch.broken:
                raise NonfiniteCalibrationError.entering(watch.broken[0], number)
            watch.first.clear()
            silent = [name for name in names if name not in watch.group_of]
            if silent:
                raise InputsMissingError(
                    f"the layer {silent[0]} did not run on the first batch of inputs ({len(silent)} such layers)",
                    f"put a batch first that reaches it, or leave it out with --exclude {silent[0]!r}",
                )
    return watch.groups


class _Watch:
    def __init__(self, error: Callable[[Tensor], Tensor]) -> None:
        self.error = error
        self.groups: list[Readers] = []
        self.group_of: dict[str, Readers] = {}
        self.broken: list[str] = []
        self.first: dict[tuple[object, ...], tuple[Readers, Tensor]] = {}
        """By tensor, of the batch that runs; the tensor is kept so that its address stays its own."""

    def hook(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            x = entering(args, kwargs)  # as it is before smoothing, whose results are tensors apart
            key = (x.data_ptr(), x.shape, x.stride(), x.dtype)
            held = self.first.get(key)
            if name not in self.group_of:
                zeros = torch.zeros(x.shape[-1], device=x.device)
                group = Readers([], zeros, zeros.clone(), zeros.clone())
                if held is None:
                    self.groups.append(group)
                self.group_of[name] = group if held is None else held[0]
                self.group_of[name].names.append(name)
            if held is None:
                self.first[key] = (self.group_of[name], x)
                rows = x.detach().reshape(-1, x.shape[-1]).float()
                self._add(name, self.group_of[name], rows * getattr(module, INPUT_SCALE, 1.0))

        return look

    def _add(self, name: str, group: Readers, rows: Tensor) -> None:
        largest = rows.abs().amax(dim=0)
        if not float(largest.amax()) < math.inf:  # True for NaN as well
            self.broken.append(name)
            return
        group.amax = torch.maximum(group.amax, largest)
        group.magnitudes += rows.abs().sum(dim=0)
        group.errors += self.error(rows).square().sum(dim=0)
        group.rows += len(rows)


def owned(root: nn.Module, names: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of these names whose weight no other module has, such as a tied embedding."""
    holders = Counter(
        id(parameter)
        for module in root.modules()
        for parameter in module._parameters.values()  # noqa: SLF001
    )
    for name in names:
        module = root.get_submodule(name)
        weight = module._parameters.get("weight")  # noqa: SLF001
        if weight is not None and holders[id(weight)] == 1:
            yield name, module


def set_weight_nk(module: nn.Module, weight: Tensor) -> None:
    """Give a linear layer another weight `[N, K]`, in the dtype of its own."""
    before = weight_nk(module)
    stored = weight.to(before.dtype)
    stored = stored.t().contiguous() if is_conv1d(module) else stored.contiguous()
    module.weight = nn.Parameter(stored, requires_grad=before.requires_grad)
