"""Buckets: the fixed shapes that a serving set has an engine for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.errors import BucketsInvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx_ir as ir

    Given = str | Sequence[str | Mapping[str, int]]

_NUMBERS = re.compile(r"\d+(?:x\d+)*")
_NAMED = re.compile(r"[^=,]+=\d+(?:,[^=,]+=\d+)*")
_EXAMPLES = "for example 1x64,1x128,8x128, or each by name: batch=1,sequence=64"
MOST = 2**31 - 1
"""TensorRT's largest extent."""


@dataclass(frozen=True)
class Bucket:
    """One extent for each dynamic dimension of a model."""

    extents: tuple[tuple[str, int], ...]
    """Dimension name and extent, in the order of the model's dimensions."""

    @property
    def name(self) -> str:
        """Its extents, as in `8x128`."""
        return "x".join(str(extent) for _, extent in self.extents)

    @property
    def volume(self) -> int:
        """Product of the extents."""
        return math.prod(extent for _, extent in self.extents)

    @property
    def specs(self) -> tuple[str, ...]:
        """The values of `--dim` that make a build of this shape only."""
        return tuple(f"{name}={extent}" for name, extent in self.extents)

    def as_dict(self) -> dict[str, int]:
        """Return dimension name → extent."""
        return dict(self.extents)


def dynamic_dims(values: Iterable[ir.Value]) -> tuple[str, ...]:
    """Return the names of the dynamic dimensions of a graph's inputs, in the order in which they first appear."""
    dims = (dim for value in values for dim in value.shape or () if not isinstance(dim, int))
    return tuple(dict.fromkeys(str(dim.value) for dim in dims))


def parse_buckets(given: Given, dims: Sequence[str]) -> tuple[Bucket, ...]:
    """Return the buckets that were asked for, in their order.

    Args:
        given: `1x64,1x128`, extents in the order of `dims`; or a list whose items are such texts, single buckets
            by name (`batch=1,sequence=64`), or mappings from name to extent.
        dims: the model's dynamic dimensions, as `dynamic_dims` finds them.

    Raises:
        BucketsInvalidError: the model has no dynamic dimension; an item is none of the above, has a number of
            extents other than that of `dims`, names another dimension, or an extent is not from 1 to `MOST`; a
            bucket is there twice; or there is none.
    """
    if not dims:
        raise BucketsInvalidError(
            "--buckets: the model has no dynamic dimension, so that one engine has its only shape",
            "export with --dynamic batch,sequence; or build one engine, without --buckets",
        )
    items = [given] if isinstance(given, str) else list(given)
    made = [bucket for item in items for bucket in _parse(item, dims)]
    if not made:
        raise BucketsInvalidError("--buckets names no bucket", _EXAMPLES)
    twice = [bucket.name for index, bucket in enumerate(made) if bucket in made[:index]]
    if twice:
        raise BucketsInvalidError(f"--buckets has {twice[0]} twice", "name each shape once")
    return tuple(made)


def _parse(item: str | Mapping[str, int], dims: Sequence[str]) -> list[Bucket]:
    if isinstance(item, Mapping):
        return [_named(dict(item), dims)]
    text = item.replace(" ", "")
    if _NAMED.fullmatch(text):
        pairs = [pair.split("=") for pair in text.split(",")]
        if len({name for name, _ in pairs}) < len(pairs):
            raise BucketsInvalidError(f"--buckets {item!r} names a dimension twice", _EXAMPLES)
        return [_named({name: int(extent) for name, extent in pairs}, dims)]
    parts = text.split(",")
    if not all(_NUMBERS.fullmatch(part) for part in parts):
        raise BucketsInvalidError(f"--buckets {item!r} is no list of extents such as 1x64", _EXAMPLES)
    return [_positional(part, dims) for part in parts]


def _positional(text: str, dims: Sequence[str]) -> Bucket:
    extents = [int(number) for number in text.split("x")]
    if len(extents) != len(dims):
        raise BucketsInvalidError(
            f"--buckets: {text} has {len(extents)} extents, and the model {len(dims)} dynamic dimensions: "
            + ", ".join(dims),
            f"give {'x'.join(dims)}",
        )
    return _checked(dict(zip(dims, extents, strict=True)), dims)


def _named(extents: Mapping[str, int], dims: Sequence[str]) -> Bucket:
    told = ",".join(f"{name}={extent}" for name, extent in extents.items())
    unknown = [name for name in extents if name not in dims]
    missing = [name for name in dims if name not in extents]
    if unknown or missing:
        raise BucketsInvalidError(
            f"--buckets {told}: the model has no dynamic dimension {unknown[0]!r}"
            if unknown
            else f"--buckets {told} gives no extent of {missing[0]!r}",
            f"its dynamic dimensions: {', '.join(dims)}",
        )
    return _checked(extents, dims)


def _checked(extents: Mapping[str, int], dims: Sequence[str]) -> Bucket:
    bucket = Bucket(tuple((name, extents[name]) for name in dims))
    if not all(isinstance(extent, int) and 1 <= extent <= MOST for _, extent in bucket.extents):
        raise BucketsInvalidError(
            f"--buckets: {bucket.name} has an extent that is not from 1 to {MOST}", _EXAMPLES
        )
    return bucket
