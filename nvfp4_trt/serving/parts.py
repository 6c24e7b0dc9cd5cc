"""An engine that was built for a serving set, and its entries in the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.costing import activation_bytes
from nvfp4_trt.passes import PLAIN
from nvfp4_trt.serving.manifest import BucketEntry, DynamicEntry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.auditing import Row
    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.building.profiles import Range
    from nvfp4_trt.costing import EngineCost
    from nvfp4_trt.passes import Form
    from nvfp4_trt.serving.buckets import Bucket
    from nvfp4_trt.serving.costs import Costs


class Profile(NamedTuple):
    """What is known of one optimization profile of an engine."""

    cost: EngineCost
    """Of one run."""
    activation_bytes: int | None


@dataclass
class Made:
    """An engine on disk."""

    path: Path
    record: EngineRecord
    profiles: tuple[Profile, ...]

    def file(self, root: Path) -> str:
        """Return its path in the set, as the manifest has it."""
        return self.path.relative_to(root).as_posix()


def profiles_of(
    rows: Sequence[Sequence[Row]],
    extents: Sequence[Mapping[str, int]],
    costs: Costs,
    log: Path,
    form: Form = PLAIN,
) -> tuple[Profile, ...]:
    """Return what a build's record and log say of each profile.

    Args:
        rows: of each profile, those of the layer record.
        extents: of each profile, those to cost it at.
        costs: of the model.
        log: TensorRT's. It states the memory for activations once a profile, or else nothing is known of it.
        form: that the model was lowered to.
    """
    stated = activation_bytes(log.read_text(encoding="utf-8", errors="replace"))
    known = stated if len(stated) == len(rows) else [None] * len(rows)
    return tuple(
        Profile(costs.of(each, at, form), memory) for each, at, memory in zip(rows, extents, known, strict=True)
    )


def bucket_entries(asked: Sequence[Bucket], parts: Sequence[Made], root: Path) -> tuple[BucketEntry, ...]:
    """Return the entries of the buckets: each in an engine of its own, or all profiles of the one there is."""
    places = [(part, index) for part in parts for index in range(len(part.profiles))]
    return tuple(
        BucketEntry(name=bucket.name, extents=bucket.as_dict(), **_common(part, index, root))
        for bucket, (part, index) in zip(asked, places, strict=False)
    )


def dynamic_entry(ranges: Mapping[str, Range], parts: Sequence[Made], root: Path) -> DynamicEntry | None:
    """Return the entry of the dynamic engine, the last profile that was built; None where there is none."""
    if not ranges:
        return None
    last = parts[-1]
    return DynamicEntry(
        ranges={name: tuple(each) for name, each in ranges.items()},
        **_common(last, len(last.profiles) - 1, root),
    )


def _common(part: Made, index: int, root: Path) -> dict[str, object]:
    profile = part.profiles[index]
    return {
        "file": part.file(root),
        "profile": index,
        "sha256": part.record.engine_sha256,
        "engine_bytes": part.record.engine_bytes,
        "kernels": profile.cost.kernels,
        "bytes_moved": profile.cost.bytes,
        "microseconds_modelled": round(profile.cost.microseconds, 3),
        "unresolved": profile.cost.unresolved,
        "activation_bytes": profile.activation_bytes,
    }
