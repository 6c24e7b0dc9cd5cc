"""The record of an engine with several profiles: which rows are whose, and what holds for all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nvfp4_trt.auditing import Audit, parse_record
from nvfp4_trt.building.profiles import InputProfile
from nvfp4_trt.errors import BuildFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.auditing import Row

_GRAPH = re.compile(r"_myl(\d+)_\d+$")
"""TensorRT numbers the graphs that it compiles, and names rows by them."""
_PROFILE = re.compile(r"\[profile (\d+)\]")


def rows_by_profile(record: str, count: int) -> list[list[Row]]:
    """Parse a layer record and return the rows of each profile.

    TensorRT-RTX ends a row's name with the number of the graph that was compiled, one a profile; full TensorRT's
    inspector names the profile. Both leave a mark `[profile N]` on the operands of every profile but the first.

    Raises:
        BuildFailedError: there is no record, there are not as many groups as profiles, or one bears the mark of
            another.
    """
    groups: dict[int, list[Row]] = {}
    for row in _parse(record):
        graph, mark = _GRAPH.search(row.name), _PROFILE.search(row.name)
        number = int(graph[1]) if graph else int(mark[1]) if mark else 0
        groups.setdefault(number, []).append(row)
    marks = {number: _marks(each) for number, each in groups.items()}
    if sorted(groups) != list(range(count)) or any(marks[i] != ({i} if i else set()) for i in groups):
        raise BuildFailedError(
            f"the layer record does not tell the engine's {count} profiles apart",
            "build an engine for each bucket: drop --share-weights",
        )
    return [groups[number] for number in range(count)]


def _parse(record: str) -> list[Row]:
    try:
        return parse_record(record)
    except ValueError as error:
        raise BuildFailedError(
            "the build gave no layer record, so nothing proves that the engine's GEMMs are FP4",
            "report the backend's version; --log FILE keeps its log",
        ) from error


def _marks(rows: Sequence[Row]) -> set[int]:
    names = [
        name
        for row in rows
        for name in (row.name, *(operand.name for operand in (*row.inputs, *row.constants, *row.outputs)))
    ]
    return {int(found) for name in names for found in _PROFILE.findall(name)}


def hull(profiles: Sequence[Mapping[str, InputProfile]]) -> dict[str, InputProfile]:
    """Return for each input its smallest shape in any profile, the last one's preferred, and the largest."""
    return {
        name: InputProfile(
            tuple(min(column) for column in zip(*(each[name].min for each in profiles), strict=True)),
            last.opt,
            tuple(max(column) for column in zip(*(each[name].max for each in profiles), strict=True)),
        )
        for name, last in profiles[-1].items()
    }


def audit_of_all(audits: Sequence[Audit]) -> Audit:
    """Return one audit for all profiles: a layer is what it is in the worst of them, kernels add up."""
    layers = tuple(
        next((layer for layer in column if not layer.realized), column[0])
        for column in zip(*(audit.layers for audit in audits), strict=True)
    )
    first = audits[0]
    return Audit(
        layers=layers,
        kernels=sum(audit.kernels for audit in audits),
        weight_bytes=max(audit.weight_bytes for audit in audits),  # they are in the engine once
        floor_bytes=first.floor_bytes,
    )
