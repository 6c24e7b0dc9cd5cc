"""Writing the recipe that was found, to read and to edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import InputSpecError
from nvfp4_trt.recipe import as_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvfp4_trt.mixing.result import Sensitivity

SUFFIXES = (".yaml", ".yml")
_KEPT_IN = {"fp8": "FP8", "model": "the model's dtype"}
_PATTERNS = ("only", "exclude", "fp8")
"""Keys whose value is a list of layers, each of which gets a line."""


def check_recipe_path(path: Path) -> None:
    """Refuse a name that `load_recipe` would not take.

    Raises:
        InputSpecError: the file's name ends in none of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise InputSpecError(f"-o {path} is no .yaml file", "a recipe is read from a .yaml or .yml file")


def write_recipe(result: Sensitivity, path: Path) -> None:
    """Write the recipe of a result that has one; the same result gives the same bytes.

    Raises:
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    with output_file(path) as made:
        made.write_text(recipe_text(result), encoding="utf-8")


def recipe_text(result: Sensitivity) -> str:
    """Return the recipe as commented YAML.

    Raises:
        ValueError: the result has no recipe.
    """
    found = result.found
    if found is None:
        raise ValueError("no budget was given, so no recipe was found")
    unit = "" if result.method == "exact" else ", estimated"
    lines = [
        f"# Found for the budget {found.budget}: it comes to {found.value:.6g} on {result.batches} batches, with",
        f"# {len(found.kept)} of {len(result.layers)} layers kept in {_KEPT_IN[found.keep]}. With none kept, the",
        f"# SQNR of the output is {result.sqnr_db:.2f} dB.",
        f"# Beside a kept layer: the SQNR with that layer alone quantized{unit}.",
    ]
    alone = {layer.name: layer.sqnr_db for layer in result.layers}
    for key, value in as_mapping(found.recipe).items():
        if key in _PATTERNS:
            lines += [f"{key}:", *_listed(value, found.kept, alone)]
        else:
            lines.append(yaml.safe_dump({key: value}, sort_keys=False).rstrip())
    return "\n".join(lines) + "\n"


def _listed(patterns: Sequence[str], kept: Sequence[str], alone: dict[str, float]) -> list[str]:
    lines = []
    for pattern in patterns:
        written = yaml.safe_dump([pattern], width=float("inf")).strip()
        lines.append(f"  {written}" + (f"  # {alone[pattern]:.2f} dB" if pattern in kept else ""))
    return lines
