"""The commands that make a model's files again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from nvfp4_trt.recipe import RECIPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.portable import Metadata
    from nvfp4_trt.recipe import Recipe


def commands(
    name: str,
    metadata: Metadata,
    recipe: Recipe,
    inputs: Mapping[str, Sequence[str]],
    record: EngineRecord | None,
    reference: str,
    input_options: Sequence[str],
    gpu: str = "",
) -> tuple[str, ...]:
    """Return the lines, as a shell takes them; MODEL and INPUTS stand for what the file does not say.

    Args:
        name: file name of the portable file.
        metadata: of it.
        recipe: that of the metadata.
        inputs: input name → dtype and dimensions.
        record: of the engine, if there is one.
        reference: the float model, or empty.
        input_options: the options that give the inputs, or none.
        gpu: what the report's times are modelled on, where it was named.
    """
    model, given = reference or "MODEL", input_options or ("--inputs", "INPUTS")
    packages = [f"{each}=={_public(number)}" for each, number in metadata.versions.items() if each != "nvfp4-trt"]
    export = ["nvfp4-trt", "export", model, "-o", name, "--recipe", _recipe_option(recipe), *given]
    for input_name, (_, *dims) in inputs.items():
        names = [dim if not dim.isdigit() else "_" for dim in dims]
        if any(each != "_" for each in names):
            export += ["--dynamic", f"{input_name}:{','.join(names)}"]
    lines = [shlex.join(["pip", "install", *sorted(packages)]), shlex.join(export)]
    engine = "" if record is None else record.engine
    if record is not None:
        build = ["nvfp4-trt", "build", "engine", name, "-o", engine, "--backend", record.backend]
        for target in record.targets:
            build += ["--target", target]
        for dim, low, best, high in ranges_of(inputs, record):
            build += ["--dim", f"{dim}={low}:{best}:{high}"]
        build += ["--plugin"] if record.plugin else []
        lines.append(shlex.join([*build, "--optimize", record.optimize]))
    report = ["nvfp4-trt", "report", name, "-o", "report.html", *(["--engine", engine] if engine else [])]
    report += ["--gpu", gpu] if gpu else []
    report += ["--reference", model, *given] if reference else []
    return (*lines, shlex.join(report))


def _public(number: str) -> str:
    """Leave out the build of a version, as in `2.13.0+cpu`: no index has it."""
    return number.split("+", maxsplit=1)[0]


def _recipe_option(recipe: Recipe) -> str:
    return recipe.name if RECIPES.get(recipe.name) == recipe else "recipe.yaml"


def ranges_of(inputs: Mapping[str, Sequence[str]], record: EngineRecord) -> list[tuple[str, int, int, int]]:
    """Return each dynamic dimension once, with its range in the profile."""
    found: dict[str, tuple[int, int, int]] = {}
    for name, (_, *dims) in inputs.items():
        shapes = record.profile.get(name)
        for axis, dim in enumerate(dims if shapes else ()):
            if not dim.isdigit() and shapes:
                low, best, high = (shape[axis] for shape in shapes)
                found.setdefault(dim, (low, best, high))
    return [(dim, *extents) for dim, extents in found.items()]
