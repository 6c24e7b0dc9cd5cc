"""A model of repeated blocks, predicted from three and four of them: each further one adds what the fourth does.

The builder's trials take three blocks for the whole as well (`passes.first_blocks`). Here what is behind the
blocks stays, so that nothing of the model is left out, and the numbers are those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nvfp4_trt.planning.renaming import Renaming
from nvfp4_trt.planning.repeats import find_run, keep_blocks

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import onnx_ir as ir

    from nvfp4_trt.planning.kernels import Kernel
    from nvfp4_trt.planning.predict import Predicted
    from nvfp4_trt.planning.repeats import Run

FEWER, MORE = 3, 4
"""How many blocks are planned: the middle one of three has another on each side, as nearly all of them have."""
WORTH = 16
"""From so many blocks on, planning seven of them takes clearly less than planning all."""


@dataclass(frozen=True)
class Portions:
    """A model with fewer blocks."""

    fewer: ir.Model
    """With three."""
    more: ir.Model
    """With four."""
    run: Run
    """The blocks of the whole."""
    nodes: tuple[ir.Node, ...]
    """Of the whole."""

    @cached_property
    def missing(self) -> int:
        """How many blocks the smaller one lacks."""
        return self.run.number - FEWER

    @cached_property
    def renamings(self) -> tuple[Renaming, ...]:
        """What the names of the fourth block are in it and in each block that it stands for."""
        return tuple(Renaming(self.nodes, self.run, FEWER - 1, ahead) for ahead in range(self.missing))


def portions(model: ir.Model, *, at_least: int = WORTH) -> Portions | None:
    """Return a model with fewer blocks; None where it does not have many that are alike.

    Args:
        model: a portable model; it stays as it is.
        at_least: how many blocks are many.
    """
    run = find_run(model.graph)
    if run is None or run.number < max(at_least, MORE):
        return None
    fewer, more = model.clone(), model.clone()
    if not keep_blocks(fewer.graph, run, FEWER) or not keep_blocks(more.graph, run, MORE):
        return None
    return Portions(fewer, more, run, tuple(model.graph))


def extend(fewer: Predicted, more: Predicted, portions: Portions) -> Predicted | None:
    """Return the prediction of the whole; None where it cannot be told what the fourth block adds.

    Args:
        fewer: the prediction of three blocks.
        more: that of four.
        portions: what both are of.
    """
    place = _place(fewer.kernels, more.kernels)
    if place is None or fewer.notes != more.notes:
        return None
    end = place + len(more.kernels) - len(fewer.kernels)
    added = {name: size for name, size in more.constants.items() if name not in fewer.constants}
    kernels, constants = list(more.kernels[:end]), dict(more.constants)
    for renamed in portions.renamings[1:]:
        kernels += [_renamed(kernel, renamed) for kernel in more.kernels[place:end]]
        constants.update((renamed(name), size) for name, size in added.items())
    # What spans the block in front of the last one and the last one itself.
    kernels += [_renamed(kernel, portions.renamings[-1]) for kernel in more.kernels[end:]]
    parts = (fewer, more)
    return replace(more, kernels=tuple(kernels), constants=constants, missing=portions.missing, parts=parts)


def _place(fewer: Sequence[Kernel], more: Sequence[Kernel]) -> int | None:
    """Return where kernels have come in; None where something else has changed too.

    Of several places that explain it, the one where most of what comes in has a name that is new.
    """
    few, many = [_likeness(each) for each in fewer], [_likeness(each) for each in more]
    added = len(many) - len(few)
    if added < 0:
        return None
    alike = 0
    while alike < len(few) and few[alike] == many[alike]:
        alike += 1
    places = [place for place in range(alike + 1) if few[place:] == many[place + added :]]
    known = {kernel.row.name for kernel in fewer}
    new = [kernel.row.name not in known for kernel in more]
    return max(places, key=lambda place: sum(new[place : place + added]), default=None)


def _likeness(kernel: Kernel) -> Hashable:
    """Return all of a kernel but names."""
    row = kernel.row
    sides = tuple(
        tuple((each.dims, each.dtype) for each in side) for side in (row.inputs, row.constants, row.outputs)
    )
    return kernel.kind, kernel.what, kernel.operators, row.type, sides, len(kernel.layers)


def _renamed(kernel: Kernel, renamed: Renaming) -> Kernel:
    row = kernel.row.model_copy(update={"name": renamed(kernel.row.name), "onnx": renamed.all(kernel.row.onnx)})
    return replace(kernel, row=row, layers=renamed.all(kernel.layers), embedded=renamed(kernel.embedded))
