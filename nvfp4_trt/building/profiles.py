"""Optimization profiles: ranges of dynamic dimensions, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.errors import InputSpecError, ProfileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

_SYNTAX = re.compile(r"(?P<name>[^=]+)=(?P<min>\d+)(?::(?P<opt>\d+):(?P<max>\d+))?")
HEADROOM = 4
"""By default a dimension may grow to this many times its extent in the example."""
LARGEST = 2**31 - 1
"""Extent of a dimension of TensorRT's, whose indices have 32 bits."""


class Range(NamedTuple):
    """Smallest, preferred and largest extent of a dimension."""

    min: int
    opt: int
    max: int


class InputProfile(NamedTuple):
    """The three shapes of one input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def parse_ranges(specs: Sequence[str]) -> dict[str, Range]:
    """Parse `NAME=MIN:OPT:MAX`, or `NAME=N` for one extent only.

    Raises:
        InputSpecError: it is neither.
        ProfileError: not `1 <= MIN <= OPT <= MAX <= LARGEST`.
    """
    found = {}
    for spec in specs:
        match = _SYNTAX.fullmatch(spec)
        if match is None:
            raise InputSpecError(f"--dim {spec!r} is not NAME=MIN:OPT:MAX", "for example --dim batch=1:8:32")
        low = int(match["min"])
        made = Range(low, int(match["opt"] or low), int(match["max"] or low))
        if not 1 <= made.min <= made.opt <= made.max:
            raise ProfileError(f"--dim {spec!r} is not an ascending range", "give 1 <= MIN <= OPT <= MAX")
        if made.max > LARGEST:
            raise ProfileError(f"--dim {spec!r} is more than a dimension can be", f"give at most {LARGEST}")
        found[match["name"]] = made
    return found


def complete_ranges(
    inputs: Sequence[ir.Value], ranges: Mapping[str, Range], example: Mapping[str, Sequence[int]]
) -> dict[str, Range]:
    """Return the range of every dynamic dimension.

    A dimension without a range gets `1 : its extent in the example : HEADROOM times that`.

    Args:
        inputs: the graph's inputs.
        ranges: by dimension name.
        example: shapes of the example inputs that the model was exported with.

    Raises:
        ProfileError: a range for a dimension that the model has not, or a dimension with no extent to go by.
    """
    extents = {
        str(dim.value): example[value.name][axis]
        for value in inputs
        if value.shape is not None and value.name is not None and value.name in example
        for axis, dim in enumerate(value.shape)
        if not isinstance(dim, int)
    }
    unknown = [name for name in ranges if name not in extents]
    if unknown:
        known = ", ".join(extents) or "none: export with --dynamic"
        raise ProfileError(
            f"--dim {unknown[0]}: the model has no such dimension", f"its dynamic dimensions: {known}"
        )
    return {name: ranges.get(name, Range(1, extent, HEADROOM * extent)) for name, extent in extents.items()}


def make_profile(
    inputs: Sequence[ir.Value], ranges: Mapping[str, Range], example: Mapping[str, Sequence[int]]
) -> dict[str, InputProfile]:
    """Return the profile of every input that has a dynamic dimension.

    Args: and raises: see `complete_ranges`.
    """
    chosen = complete_ranges(inputs, ranges, example)
    profile = {}
    for value in inputs:
        dims = [] if value.shape is None else list(value.shape)
        if value.name is None or all(isinstance(dim, int) for dim in dims):
            continue
        columns = [Range(d, d, d) if isinstance(d, int) else chosen[str(d.value)] for d in dims]
        profile[value.name] = InputProfile(*(tuple(shape) for shape in zip(*columns, strict=True)))
    return profile
