"""Running a model again and again up to a layer, without running again what is known.

Methods that look at inputs go through a model layer by layer and need what enters each. The members of a model's
lists of blocks (`nn.ModuleList`, `nn.Sequential`) run once for each batch in each of two models, the float one
and the quantized one; after that they return what they returned. That is kept in memory: an activation for each
block, batch and model.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nvfp4_trt.loading import check_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from nvfp4_trt.loading import Batch


class Run(NamedTuple):
    """One forward."""

    number: int
    """Of the batch."""
    quantized: bool
    """Whether the layers are in their quantized form, as far as they have one."""
    target: str = ""
    """A layer that is to run even where its block's result is known."""


class _Reached(BaseException):
    """The forward has come as far as it is needed. No `Exception`, so that a model's own code lets it pass."""


class Replay:
    """Runs forwards of a model in which blocks whose layers are done return what they returned.

    Args:
        root: the model.
        layers: the names of the layers that are being replaced. Blocks without any of them run each time.
        undo: takes back what is changed in the model.
    """

    def __init__(self, root: nn.Module, layers: Collection[str], undo: ExitStack) -> None:
        self._root = root
        self._waiting = {
            block: {name for name in layers if _within(name, block)} for block in _blocks(root, layers)
        }
        self._known: dict[tuple[str, int, int, bool], Any] = {}
        self._calls: dict[str, int] = {}
        self._now = Run(0, quantized=False)
        for block in self._waiting:
            module = root.get_submodule(block)
            redirect(module, self._remembering(block, module.forward), undo)

    def done(self, layer: str) -> None:
        """Take note that a layer has its final form in the quantized model."""
        for waiting in self._waiting.values():
            waiting.discard(layer)

    def run(self, batch: Batch, now: Run) -> None:
        """Run a forward on a batch, to its end or to where a layer calls `stop`.

        Raises:
            InputsMismatchError, ModelRunError: see `check_runs`.
        """
        self._now, self._calls = now, {}
        with suppress(_Reached):
            check_runs(self._root, batch)

    @staticmethod
    def stop() -> None:
        """End the forward that is running."""
        raise _Reached

    def _remembering(self, block: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            call = self._calls[block] = self._calls.get(block, 0) + 1
            key = (block, call, self._now.number, self._now.quantized)
            if key in self._known and not _within(self._now.target, block):
                return _copied(self._known[key])
            result = forward(*args, **kwargs)
            if not (self._now.quantized and self._waiting[block]):
                self._known[key] = _copied(result)
            return result

        return run


def redirect(module: nn.Module, forward: Callable[..., Any], undo: ExitStack) -> None:
    """Give a module another forward, until `undo` is closed."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward

    def restore() -> None:
        del module.__dict__["forward"]
        if own is not None:
            module.__dict__["forward"] = own

    undo.callback(restore)


def _blocks(root: nn.Module, layers: Collection[str]) -> list[str]:
    """Return the names of the outermost members of lists of blocks that hold any of the layers."""
    found: list[str] = []
    for name, module in root.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and not any(_within(name, b) for b in found):
            members = [f"{name}.{child}" if name else child for child, _ in module.named_children()]
            found += [member for member in members if any(_within(layer, member) for layer in layers)]
    return found


def _within(name: str, block: str) -> bool:
    return name.startswith(f"{block}.")


def _copied(result: Any) -> Any:
    """Return a result with copies of its tensors, so that nothing that is done to them in place is remembered."""
    return pytree.tree_map_only(Tensor, torch.clone, result)
