"""Any ONNX file → a plan: a portable one as it is, a float one as `export` would quantize its model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.building.profiles import parse_ranges
from nvfp4_trt.errors import NothingToQuantizeError, OnnxInvalidError, WrongKindError
from nvfp4_trt.planning.float_file import WEIGHTS, fix_inputs, is_float, read_float
from nvfp4_trt.planning.plan import plan_file
from nvfp4_trt.planning.quantized import quantize_outline
from nvfp4_trt.portable import Metadata, package_versions
from nvfp4_trt.recipe import DEFAULT_RECIPE, load_recipe, refuse_transforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.building.variants import Optimize
    from nvfp4_trt.layers import Layer
    from nvfp4_trt.planning.result import Plan
    from nvfp4_trt.recipe import Recipe

_NAMED = 3
"""Layers that a note names."""


def plan_onnx(
    source: Path,
    *,
    recipe: str | Path | Recipe | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    gpus: Sequence[str] = (),
    dims: Sequence[str] = (),
    optimize: Optimize = "fast",
    calibrate: Path | None = None,
) -> Plan:
    """Plan the engines of a portable file, or those that a float file's layers would make once quantized.

    Args:
        source: any ONNX file without another tool's NVFP4 codes; no data of its weights is read.
        recipe: of a float file: how its layers would be quantized.
        only: of a float file: patterns of layers to quantize, by the names that `check` prints.
        exclude: likewise, of layers to leave as they are.
        fp8: likewise, of layers to make FP8.
        gpus: see `plan_file` for this and what follows. A float file has no example inputs: each of its dynamic
            dimensions needs a range.
        dims: one without a name is `INPUT.AXIS`.
        optimize: how to lower.
        calibrate: times measured.

    Raises:
        WrongKindError: a portable file, whose recipe is decided, and options of one.
        NothingToQuantizeError: no layer of a float file would be FP4 or FP8.
        RecipeInvalidError: the recipe has transforms, which look at what weights hold.
        Nvfp4Error: any of `plan_file`, `is_float`, `read_float`, `fix_inputs` and `quantize_outline`.
    """
    asked = {"recipe": recipe, "only": only, "exclude": exclude, "fp8": fp8}
    given = [name for name, value in asked.items() if value]
    if not is_float(source):
        if given:
            raise WrongKindError(
                f"{source} is exported already, and --{given[0]} is of an export",
                "leave it out, or give the model that the file was exported from",
            )
        return plan_file(source, gpus=gpus, dims=dims, optimize=optimize, calibrate=calibrate)
    chosen = load_recipe(recipe or DEFAULT_RECIPE).with_patterns(only, exclude, fp8)
    refuse_transforms(chosen, f"what it adds to the layers of {source} is not foreseen without running them")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outline.onnx"
        layers = _write_outline(source, chosen, dims, path)
        try:
            made = plan_file(path, gpus=gpus, dims=dims, optimize=optimize, calibrate=calibrate, name=str(source))
        except OnnxInvalidError as error:
            raise OnnxInvalidError(error.message.replace(str(path), str(source)), error.hint) from error
    return made.model_copy(update={"notes": (*_notes(layers, chosen), *made.notes)})


def _write_outline(source: Path, recipe: Recipe, dims: Sequence[str], path: Path) -> tuple[Layer, ...]:
    """Write the portable file that export would make of a float one, with zeros for weights; return its layers."""
    read = read_float(source)
    shapes = fix_inputs(read.model, parse_ranges(dims), source)
    layers = quantize_outline(read, recipe)
    if not any(layer.quantized for layer in layers):
        raise NothingToQuantizeError(
            f"none of the {len(layers)} layers of {source} would be FP4{_why(layers)}",
            "`nvfp4-trt check` names the reason of each, and what would mend it",
        )
    metadata = Metadata(
        recipe=recipe.model_dump(mode="json"),
        layers=layers,
        scale_rule=str(recipe.weights.rule),
        source_sha256="",
        example_shapes=shapes,
        versions=package_versions(),
    )
    read.model.metadata_props.update(metadata.as_props())
    with (path.parent / WEIGHTS).open("wb") as file:
        file.truncate(read.weight_bytes)  # a file of holes: no byte of it is stored
    ir.save(read.model, path)
    return layers


def _notes(layers: Sequence[Layer], recipe: Recipe) -> tuple[str, ...]:
    """Say of what the plan is: the file itself has no NVFP4."""
    quantized = [layer for layer in layers if layer.quantized]
    left = [layer for layer in layers if not layer.quantized]
    count = f"{len(quantized)} of its {len(layers)} products"
    told = f"a float file, planned as if {count} were quantized ({recipe.name})"
    return (told, f"{len(left)} stay as they are{_why(left)}") if left else (told,)


def _why(layers: Sequence[Layer]) -> str:
    shown = [f"{layer.name}: {layer.reason}" for layer in layers[:_NAMED]]
    more = ["…"] if len(layers) > _NAMED else []
    return f" ({'; '.join([*shown, *more])})" if shown else ""
