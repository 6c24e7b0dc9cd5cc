"""What a search tries: forms of the graph, and for fixed shapes profiles that leave the number of rows open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from nvfp4_trt.building.profiles import Range
from nvfp4_trt.passes import FORMS, PLAIN, Form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Optimize = Literal["off", "fast", "full"]
"""How much is tried: the plain lowering alone; what has been found to win somewhere; everything."""
OPTIMIZE: tuple[Optimize, ...] = ("off", "fast", "full")
BUDGETS: dict[Optimize, float] = {"off": 0.0, "fast": 60.0, "full": 600.0}
"""Seconds that a search may take beside the plain build, where none are given."""


class Variant(NamedTuple):
    """One way to build a model."""

    form: Form = PLAIN
    loosened: str = ""
    """A dimension of one extent whose profile has another beside it, so that its size stays open in the graph."""
    padded: bool = False
    """Whether the number of rows becomes a multiple of 128 (`PadRows`)."""

    @property
    def name(self) -> str:
        """What it is called in the tables and in the names of folders."""
        parts = (self.form, f"{self.loosened} loosened" if self.loosened else "", "padded" if self.padded else "")
        return ", ".join(part for part in parts if part)

    def ranges(self, given: Mapping[str, Range]) -> dict[str, Range]:
        """Return the ranges of dimensions that its profile is made of."""
        if not self.loosened:
            return dict(given)
        extent = given[self.loosened].opt
        return {**given, self.loosened: Range(extent - 1, extent, extent) if extent > 1 else Range(1, 1, 2)}

    def extents(self, given: Mapping[str, Range]) -> dict[str, int]:
        """Return the dimensions that become numbers in the graph.

        The form `blocks` fuses where the number of rows is open; elsewhere a number is worth kernels.
        """
        fixed = {name: each.min for name, each in self.ranges(given).items() if each.min == each.max}
        everything_fixed = len(fixed) == len(given)
        return {} if self.form == "blocks" and everything_fixed else fixed


def variants(optimize: Optimize, ranges: Mapping[str, Range], *, odd_rows: bool = False) -> tuple[Variant, ...]:
    """Return what a search tries, the plain variant first; of several that cost the same, the first one is kept.

    Args:
        optimize: how much.
        ranges: of every dynamic dimension of the model.
        odd_rows: whether rows are known whose number is no multiple of 128.
    """
    plain = Variant()
    if optimize == "off":
        return (plain,)
    others = [form for form in FORMS if form != PLAIN]
    loose = _loosened(ranges)
    padded = (Variant(padded=True),) if odd_rows else ()
    if optimize == "fast":
        opened = (Variant(form, loose[0] if loose and form == "blocks" else "") for form in others)
        return (plain, *opened, *padded)
    every = [Variant(form, name) for form in FORMS for name in ("", *loose)]
    return (plain, *(each for each in every if each != plain), *padded)


def _loosened(ranges: Mapping[str, Range]) -> Sequence[str]:
    """Return what may be loosened where all dimensions have one extent: those of more than 1, or the first."""
    if any(each.min != each.max for each in ranges.values()):
        return ()
    return [name for name, each in ranges.items() if each.max > 1] or list(ranges)[:1]
