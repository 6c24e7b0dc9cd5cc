"""From a model to a portable ONNX file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from nvfp4_trt.api.quantizing import weight_method
from nvfp4_trt.api.sources import cast, example_inputs, modes_kept
from nvfp4_trt.atomic import check_writable
from nvfp4_trt.calibration import Calibration, calibrator_for, given_calibration, looked_at, recipe_for
from nvfp4_trt.checkpoints import is_checkpoint, load_checkpoint
from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.exporting import OnnxArtifact, export_module
from nvfp4_trt.fixing import fix_module
from nvfp4_trt.loading import LoadedModel, Spill, check_fits, load_model
from nvfp4_trt.qat import refuse_prepared
from nvfp4_trt.quantization import QuantizedModel, quantize_module
from nvfp4_trt.recipe import Recipe, load_recipe
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.loading import Batch


def export(
    model: Source | QuantizedModel,
    output: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    calibration: str | Path | Calibration | None = None,
    dynamic: Sequence[str] = (),
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    fix: bool = False,
    weights: str | None = None,
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
) -> OnnxArtifact:
    """Load, quantize and export a model to a portable ONNX file.

    Args:
        model: a path to any of the five kinds that `nvfp4_trt.loading` reads, or to an NVFP4 checkpoint, whose
            codes and scales are taken as they are; or a module (left unchanged); or a quantized model, as from
            `quantize` or `convert_qat`.
        output: the ONNX file; it appears whole or not at all.
        recipe: a built-in name, a YAML file, or a `Recipe`; by default the calibration's, w4a4-dynamic-token, or
            what a checkpoint says of its activations.
        inputs: example batches, a file of them, or `package.module:function`; the first is traced, all
            of them calibrate a static recipe.
        input_specs: random inputs instead, `NAME:DTYPE:SHAPE[:LOW..HIGH]` each.
        seed: of random inputs.
        calibration: static scales that were found before: what `calibrate` returned, or its file.
        dynamic: dynamic dimensions: `batch,sequence`, or `NAME:batch,_`.
        only: patterns of the layers to quantize, instead of the recipe's.
        exclude: patterns of layers to leave as they are, beside the recipe's.
        fp8: patterns of layers to make FP8 instead, beside the recipe's.
        fix: first rewrite layers, their meaning unchanged, so that more can be FP4; see `fixing.fix_module`.
        weights: the weight method of all layers, instead of the recipe's.
        factory: `package.module:function` that makes the module of a state dict or safetensors file.
        trust_pickle: let the file run code where loading it means that.
        dtype: cast the model and its floating inputs first: `float32`, `float16` or `bfloat16`.

    Raises:
        Nvfp4Error: any of `nvfp4_trt.errors`, each with its code and a hint.
    """
    path = Path(output)
    check_writable(path)
    known = given_calibration(calibration)
    given = _Given(inputs, input_specs, seed, factory, trust_pickle, dtype)
    if isinstance(model, QuantizedModel) or (not isinstance(model, nn.Module) and is_checkpoint(Path(model))):
        if only or exclude or fp8 or fix or weights is not None or known is not None:
            raise WrongKindError(
                f"{_named(model)} is quantized already: its own layers are FP4, with its own scales",
                "leave out --only, --exclude, --fp8, --fix, --weights and --calibration",
            )
        make = partial(_taken, model, given, recipe)
    else:
        if fix and known is not None:
            raise WrongKindError(
                "--fix renames layers, and the scales of --calibration are of layers by their old names",
                "leave out one of the two: export calibrates a static recipe on its inputs",
            )
        chosen = recipe_for(recipe, known).with_patterns(only, exclude, fp8)
        chosen = chosen if weights is None else chosen.with_method(weight_method(weights))
        make = partial(_made, model, given, chosen, known, fix=fix)
    with modes_kept(model.module if isinstance(model, QuantizedModel) else model), Spill(path) as spill:
        ready = make(spill)
        with stage(f"writing {path.name}"):
            return export_module(
                ready.quantized,
                ready.batches[0],
                path,
                dynamic=dynamic,
                source_sha256=ready.source_sha256,
                fixed=ready.fixed,
                looked_at=ready.looked_at,
            )


class _Given(NamedTuple):
    """What `export` was given to load a model with, and to feed it; see there."""

    inputs: GivenInputs
    input_specs: Sequence[str]
    seed: int
    factory: str | None
    trust_pickle: bool
    dtype: str | torch.dtype | None

    def batches(self, loaded: LoadedModel) -> Sequence[Batch]:
        """Return the example inputs of a model."""
        return example_inputs(loaded, self.inputs, self.input_specs, self.seed).batches


class _Ready(NamedTuple):
    """A model to be written, see `export_module`."""

    quantized: QuantizedModel
    batches: Sequence[Batch]
    source_sha256: Callable[[], str]
    fixed: Mapping[str, str] | None = None
    looked_at: Mapping[str, str] | None = None


def _taken(
    model: str | Path | QuantizedModel, given: _Given, recipe: str | Path | Recipe | None, spill: Spill
) -> _Ready:
    """Take a model that is quantized already as it is."""
    with stage(f"loading {_named(model)}"):
        loaded, quantized = _quantized(model, given.factory, recipe)
    copied = isinstance(model, QuantizedModel)
    module, batches = cast(quantized.module, given.batches(loaded), given.dtype, copy=copied, spill=spill)
    check_fits(module, batches[0])
    return _Ready(replace(quantized, module=module), batches, loaded.hashed)


def _made(
    model: Source, given: _Given, recipe: Recipe, known: Calibration | None, spill: Spill, *, fix: bool
) -> _Ready:
    """Load a float model, and quantize it."""
    if isinstance(model, nn.Module):
        refuse_prepared(model, "its weights are still trained")
    if known is not None:
        known.check_recipe(recipe)
    with stage(f"loading {_named(model)}"):
        loaded = load_model(model, factory=given.factory, trust_pickle=given.trust_pickle, spill=spill)
    floats = given.batches(loaded)
    if known is not None:
        known.check_belongs(loaded.kind, loaded.sha256)
    copy = isinstance(model, nn.Module)
    module, batches = cast(loaded.module, floats, given.dtype, copy=copy, spill=spill)
    check_fits(module, batches[0])  # a quantized layer takes shapes and dtypes that the float one refuses
    owned = module is not loaded.module or not copy
    fixed: dict[str, str] = {}
    if fix:
        with stage("rewriting layers"):
            (module, fixed), owned = fix_module(module, batches[0], inplace=owned), True
    with stage("quantizing"):
        calibrate = calibrator_for(recipe, known, batches)
        quantized = quantize_module(
            module, recipe, calibrate=calibrate, inputs=batches, inplace=owned, spill=spill
        )
    return _Ready(quantized, batches, loaded.hashed, fixed, looked_at(quantized, batches))


def _quantized(
    model: str | Path | QuantizedModel, factory: str | None, recipe: str | Path | Recipe | None
) -> tuple[LoadedModel, QuantizedModel]:
    """Return a model that is quantized already, and what is known of where it came from."""
    if not isinstance(model, QuantizedModel):
        return load_checkpoint(
            Path(model), factory=factory, recipe=None if recipe is None else load_recipe(recipe)
        )
    if recipe is not None:
        raise WrongKindError(
            f"{_named(model)} was quantized with the recipe {model.recipe.name}", "leave the recipe out"
        )
    return load_model(model.module), model


def _named(model: Source | QuantizedModel) -> str:
    module = model.module if isinstance(model, QuantizedModel) else model
    return f"this {type(module).__name__}" if isinstance(module, nn.Module) else str(module)
