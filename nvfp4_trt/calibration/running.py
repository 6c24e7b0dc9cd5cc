"""Running every batch while something looks at what enters some of the layers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nvfp4_trt.errors import InputsMissingError
from nvfp4_trt.loading import check_runs
from nvfp4_trt.quantization.select import entering

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from torch import Tensor, nn

    from nvfp4_trt.loading import Batch


def run_batches(
    module: nn.Module,
    names: Sequence[str],
    batches: Iterable[Batch],
    visit: Callable[[str, Tensor], None],
    *,
    after: Callable[[], None] | None = None,
) -> int:
    """Run every batch, and call `visit(name, activation)` for each time that a named layer runs.

    Args:
        module: in evaluation mode; it gets hooks, and loses them again.
        names: qualified names of layers that take their activation as first argument.
        batches: inputs by the names of the forward's parameters.
        visit: given a layer's name and its input `[..., K]`, without gradients; what it raises reaches the
            model's forward, so it should raise nothing.
        after: called after each batch; what it raises ends the run.

    Returns:
        How many batches there were.

    Raises:
        InputsMismatchError, ModelRunError: the module raised on a batch.
    """
    count = 0
    with contextlib.ExitStack() as hooks:
        for name in names:
            layer = module.get_submodule(name)
            handle = layer.register_forward_pre_hook(_hook(name, visit), with_kwargs=True)
            hooks.callback(handle.remove)
        for batch in batches:
            count += 1
            check_runs(module, batch)
            if after is not None:
                after()
    return count


def check_seen(names: Sequence[str], seen: Collection[str], batches: int) -> None:
    """Refuse to conclude anything from layers that nothing was seen of.

    Args:
        names: of the layers to conclude on.
        seen: names of those that ran.
        batches: how many were run, by this process and any other.

    Raises:
        InputsMissingError: there was no batch, or a layer never ran.
    """
    if not batches:
        raise InputsMissingError("static scales need calibration inputs, and no batch was given", "give --inputs")
    silent = [name for name in names if name not in seen]
    if silent:
        raise InputsMissingError(
            f"the layer {silent[0]} never ran on the calibration inputs ({len(silent)} such layers)",
            f"give inputs that reach it, or leave it out with --exclude {silent[0]!r}",
        )


def _hook(name: str, visit: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def observe(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        visit(name, entering(args, kwargs).detach())

    return observe
