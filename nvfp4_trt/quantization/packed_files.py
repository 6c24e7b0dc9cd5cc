"""Packing a safetensors file: weights become NVFP4, all else is copied, and nothing is ever held whole."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvfp4_trt import format as fmt
from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import InputsMissingError, NothingToQuantizeError, WrongKindError
from nvfp4_trt.loading.safetensors_files import Entry, Header, map_tensors, read_header
from nvfp4_trt.loading.safetensors_writing import Place, copy_region, header_bytes, laid_out, write_at
from nvfp4_trt.loading.sniffing import FileKind, sniff
from nvfp4_trt.patterns import matching
from nvfp4_trt.quantization.methods import scale_choice
from nvfp4_trt.quantization.packing import every_core, pack_into
from nvfp4_trt.recipe import RuleName, WeightMethod

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PACKED, BLOCK_SCALE, PER_TENSOR_SCALE = "_packed", "_block_scale", "_per_tensor_scale"
"""What follows a weight's name in the names of the three tensors that it becomes."""

VERSION = "1"
PREFIX = "nvfp4."
_WEIGHT = ".weight"
_QUANTIZABLE = {torch.float16, torch.bfloat16, torch.float32}


@dataclass(frozen=True)
class PackedFile:
    """A safetensors file whose weights are NVFP4."""

    path: Path
    weights: tuple[str, ...]
    """The names of the weights that were packed, as the source has them."""
    copied: int
    """How many tensors are as they were."""
    source_bytes: int
    bytes: int


def pack_file(
    source: Path,
    output: Path,
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    rule: RuleName = RuleName.SPEC,
    method: WeightMethod = WeightMethod.MAX,
) -> PackedFile:
    """Pack a safetensors file's weights.

    Every tensor `[N, K]` of fp16, bf16 or fp32 with K a multiple of 16 that the patterns select becomes three:
    `NAME_packed` uint8 `[N, K/2]`, `NAME_block_scale` float8_e4m3fn `[N, K/16]` and `NAME_per_tensor_scale` fp32
    `[]`. Memory holds one weight at a time.

    Args:
        source: a safetensors file.
        output: the file to write; it appears whole or not at all.
        only: patterns of names, without `.weight`, to pack; all by default.
        exclude: patterns of names to leave as they are.
        rule: how block scales are rounded.
        method: how scales are chosen; one that looks at the weights alone.

    Raises:
        InputsMissingError: the method needs to know what enters each layer.
        FileMissingError, FileTruncatedError, NotAModelError: see `sniff` and `read_header`.
        WrongKindError: the file is none of safetensors, or is packed already.
        PatternMatchesNothingError: a pattern matches no weight that can be packed.
        NothingToQuantizeError: no weight can be packed, or all are excluded.
        NonfiniteWeightError: a weight holds NaN or infinity.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    if method.needs_inputs:
        raise InputsMissingError(
            f"{method} looks at what enters each layer, and a file of weights has no inputs",
            f"nvfp4-trt export MODEL -o FILE --weights {method} --inputs ..., or pack with mse",
        )
    if sniff(source) is not FileKind.SAFETENSORS:
        raise WrongKindError(
            f"{source} is not a safetensors file", "packing takes one; other models go through `nvfp4-trt export`"
        )
    header = read_header(source)
    chosen = _select(header, source, only, exclude)
    places = _places(header, chosen, source)
    start = header_bytes(places, _metadata(header, chosen, rule, method))
    with output_file(output) as made, made.open("w+b", buffering=0) as file:
        size = len(start) + sum(place.length for place in places.values())
        os.posix_fallocate(file.fileno(), 0, size)  # a disk that is too small is told of now
        write_at(file.fileno(), 0, start)
        _fill(file.fileno(), len(start), source, header, chosen, places, rule, method)
    return PackedFile(output, tuple(chosen), len(header.tensors) - len(chosen), source.stat().st_size, size)


def _select(header: Header, source: Path, only: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Return the names of the tensors to pack, in the file's order."""
    if any(key.startswith(PREFIX) for key in header.metadata):
        raise WrongKindError(f"{source} is packed already, as its metadata says", "give the original file")
    able = {name.removesuffix(_WEIGHT): name for name, entry in header.tensors.items() if _packable(entry)}
    if not able:
        raise NothingToQuantizeError(
            f"none of the {len(header.tensors)} tensors of {source} can be packed",
            "a weight is [N, K] in float16, bfloat16 or float32, with K a multiple of 16",
        )
    layers = matching(able, only, option="--only") if only else set(able)
    layers -= matching(able, exclude, option="--exclude")
    if not layers:
        raise NothingToQuantizeError(
            f"all {len(able)} weights of {source} are excluded", "check --only and --exclude"
        )
    return [name for layer, name in able.items() if layer in layers]


def _packable(entry: Entry) -> bool:
    return (
        entry.dtype in _QUANTIZABLE
        and len(entry.shape) == 2  # noqa: PLR2004 (rows and columns)
        and min(entry.shape) > 0
        and entry.shape[1] % fmt.BLOCK == 0
    )


def _places(header: Header, chosen: Sequence[str], source: Path) -> dict[str, Place]:
    """Return the output's tensors, those of larger elements first, so that each is aligned."""
    found: dict[str, Place] = {}
    packed = set(chosen)
    for name, entry in header.tensors.items():
        if name not in packed:
            found[name] = Place(entry.dtype, entry.shape)
            continue
        n, k = entry.shape
        found[name + PACKED] = Place(torch.uint8, (n, k // 2))
        found[name + BLOCK_SCALE] = Place(torch.float8_e4m3fn, (n, k // fmt.BLOCK))
        found[name + PER_TENSOR_SCALE] = Place(torch.float32, ())
    if len(found) != len(header.tensors) + 2 * len(chosen):
        raise WrongKindError(f"{source} has tensors named like packed ones", f"leave out those with *{PACKED}")
    return laid_out(found)


def _metadata(header: Header, chosen: Sequence[str], rule: RuleName, method: WeightMethod) -> dict[str, str]:
    weights = {
        name: {
            "shape": header.tensors[name].shape,
            "dtype": str(header.tensors[name].dtype).removeprefix("torch."),
        }
        for name in chosen
    }
    return {
        **header.metadata,
        f"{PREFIX}version": VERSION,
        f"{PREFIX}scale_rule": str(rule),
        f"{PREFIX}method": str(method),
        f"{PREFIX}weights": json.dumps(weights),
    }


def _fill(
    file: int,
    start: int,
    source: Path,
    header: Header,
    chosen: Sequence[str],
    places: dict[str, Place],
    rule: RuleName,
    method: WeightMethod,
) -> None:
    mapped = map_tensors([source])
    packed = set(chosen)
    with every_core() as pool:
        for name, entry in header.tensors.items():
            if name not in packed:
                copy_region(file, start + places[name].offset, entry.region)
                continue
            codes, scales = (start + places[name + suffix].offset for suffix in (PACKED, BLOCK_SCALE))
            k = entry.shape[1]

            def take(
                rows: slice, packed: Tensor, block: Tensor, at: tuple[int, int, int] = (codes, scales, k)
            ) -> None:
                write_at(file, at[0] + rows.start * (at[2] // 2), packed)
                write_at(file, at[1] + rows.start * (at[2] // fmt.BLOCK), block)

            scale = pack_into(take, mapped[name], fmt.scale_rule(rule), name, pool, scale_choice(method))
            write_at(file, start + places[name + PER_TENSOR_SCALE].offset, scale)
