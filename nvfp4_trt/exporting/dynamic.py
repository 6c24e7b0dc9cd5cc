"""Dynamic dimensions: the `--dynamic` syntax, and what it means for torch's exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.errors import InputsMismatchError, InputSpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    Batch = dict[str, torch.Tensor]
    Axes = dict[str, dict[int, str]]

FIXED = "_"
"""The name of an axis that stays as it is in the example."""


def dynamic_axes(specs: Sequence[str], batch: Mapping[str, torch.Tensor]) -> Axes:
    """Parse dynamic dimensions.

    Args:
        specs: `batch,sequence` names the leading axes of every input; `NAME:batch,_,width` those of one input,
            `_` for an axis that stays fixed, and replaces what the general form said of it.
        batch: example inputs by name.

    Returns:
        For each input with dynamic axes, axis number → dimension name.

    Raises:
        InputSpecError: an unknown input, more names than axes, or something that is no name.
    """
    axes: Axes = {}
    for spec in sorted(specs, key=lambda s: ":" in s):
        target, _, names = spec.rpartition(":")
        listed = [name.strip() for name in names.split(",")]
        if not all(name == FIXED or name.isidentifier() for name in listed):
            raise InputSpecError(
                f"--dynamic {spec!r} is not a list of names", "for example --dynamic batch,sequence"
            )
        if target and target not in batch:
            raise InputSpecError(
                f"--dynamic {spec!r}: the model has no input {target!r}", f"its inputs are {', '.join(batch)}"
            )
        for name in [target] if target else batch:
            rank = batch[name].dim()
            if target and len(listed) > rank:
                raise InputSpecError(f"--dynamic {spec!r}: {name} has {rank} axes", "name at most that many")
            axes[name] = {i: dim for i, dim in enumerate(listed[:rank]) if dim != FIXED}
    return {name: found for name, found in axes.items() if found}


def traceable(batch: Batch, axes: Axes) -> Batch:
    """Return the batch with dynamic axes of extent 1 repeated to 2, since a tracer takes 1 for a constant.

    Raises:
        InputsMismatchError: one dimension has two extents in the example.
    """
    extents: dict[str, tuple[int, str]] = {}
    for name, named in axes.items():
        for axis, dim in named.items():
            extent = batch[name].shape[axis]
            known, where = extents.setdefault(dim, (extent, name))
            if known != extent:
                raise InputsMismatchError(
                    f"the dimension {dim!r} is {known} in {where} and {extent} in {name}",
                    "give the two different names, or example inputs of one size",
                )
    widened = dict(batch)
    for name, named in axes.items():
        for axis in named:
            if widened[name].shape[axis] == 1:
                widened[name] = widened[name].repeat_interleave(2, dim=axis)
    return widened
