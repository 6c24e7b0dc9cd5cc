"""Which engine takes a request: the cheapest bucket that fits, several along the batch, or the dynamic one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.errors import ShapeNotServedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvfp4_trt.serving.manifest import BucketEntry, EngineEntry, Manifest

DYNAMIC = "dynamic"


@dataclass(frozen=True)
class Run:
    """One execution of an engine for a request, or for some of its rows."""

    engine: EngineEntry
    bucket: str
    """The bucket's name, or `dynamic`."""
    extents: dict[str, int]
    """Dimension name → extent that the engine runs at: the bucket's, or for the dynamic engine the request's."""
    used: dict[str, int]
    """Dimension name → extent of the part of the request that it takes."""
    start: int = 0
    """The first row of the request that it takes."""

    @property
    def padding(self) -> float:
        """Share of the run's elements that is padding, from 0 to 1."""
        share = 1.0
        for name, extent in self.extents.items():
            share *= self.used[name] / extent
        return 1.0 - share


def plan(manifest: Manifest, extents: Mapping[str, int]) -> tuple[Run, ...]:
    """Return the runs that serve a request, in the order of its rows.

    The cheapest bucket that takes all of it, if any; else, where only the batch is too large, the bucket with the
    most rows as often as it is full, and for what remains the cheapest that takes that; else the dynamic engine.

    Args:
        manifest: of the serving set.
        extents: the request's, of every dynamic dimension.

    Raises:
        ShapeNotServedError: no engine takes the shape.
    """
    wanted = {name: extents[name] for name in manifest.dims}
    whole = _cheapest(manifest, wanted)
    if whole is not None and min(wanted.values()) > 0:
        return (_run(whole, wanted, 0),)
    split = _split(manifest, wanted) if min(wanted.values()) > 0 else ()
    if split:
        return split
    dynamic = manifest.dynamic
    if dynamic is not None and all(low <= wanted[dim] <= most for dim, (low, _, most) in dynamic.ranges.items()):
        return (Run(dynamic, DYNAMIC, wanted, wanted),)
    raise _not_served(manifest, wanted)


def _cheapest(manifest: Manifest, wanted: Mapping[str, int]) -> BucketEntry | None:
    """Return the bucket of the shortest modelled time among those that take a shape; of equals, the smallest."""
    fits = [each for each in manifest.buckets if all(wanted[dim] <= each.extents[dim] for dim in manifest.dims)]
    return min(fits, key=lambda each: (each.microseconds_modelled, each.volume), default=None)


def _split(manifest: Manifest, wanted: Mapping[str, int]) -> tuple[Run, ...]:
    batch = manifest.batch
    if batch is None:
        return ()
    row = {**wanted, batch: 1}
    fits = [each for each in manifest.buckets if all(row[dim] <= each.extents[dim] for dim in manifest.dims)]
    if not fits:
        return ()
    # The most rows at once; of buckets with as many, the cheapest.
    largest = min(fits, key=lambda each: (-each.extents[batch], each.microseconds_modelled, each.volume))
    step = largest.extents[batch]
    runs = []
    for start in range(0, wanted[batch], step):
        part = {**wanted, batch: min(step, wanted[batch] - start)}
        bucket = largest if part[batch] == step else _cheapest(manifest, part)
        runs.append(_run(bucket or largest, part, start))
    return tuple(runs)


def _run(bucket: BucketEntry, used: Mapping[str, int], start: int) -> Run:
    return Run(bucket, bucket.name, dict(bucket.extents), dict(used), start)


def _not_served(manifest: Manifest, wanted: Mapping[str, int]) -> ShapeNotServedError:
    asked = ", ".join(f"{name}={extent}" for name, extent in wanted.items())
    told = f"buckets {', '.join(each.name for each in manifest.buckets)} ({'x'.join(manifest.dims)})"
    if manifest.dynamic is None:
        told += ", and no dynamic engine"
    else:
        spans = (f"{name} {low} to {most}" for name, (low, _, most) in manifest.dynamic.ranges.items())
        told += f", and a dynamic engine for {', '.join(spans)}"
    return ShapeNotServedError(
        f"no engine takes a request of {asked}; the set has {told}",
        "cut the request, or build the set again with a larger bucket or range (--buckets, --dim)",
    )
