"""From a model to a portable ONNX file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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
    from collections.abc import Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source


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
    if isinstance(model, QuantizedModel) or (not isinstance(model, nn.Module) and is_checkpoint(Path(model))):
        if only or exclude or fp8 or fix or weights is not None or known is not None:
            raise WrongKindError(
                f"{_named(model)} is quantized already: its own layers are FP4, with its own scales",
                "leave out --only, --exclude, --fp8, --fix, --weights and --calibration",
            )
        held = model.module if isinstance(model, QuantizedModel) else model
        with modes_kept(held), Spill(path) as spill:
            with stage(f"loading {_named(model)}"):
                loaded, quantized = _quantized(model, factory, recipe)
            given = example_inputs(loaded, inputs, input_specs, seed)
            copied = isinstance(model, QuantizedModel)
            module, batches = cast(quantized.module, given.batches, dtype, copy=copied, spill=spill)
            check_fits(module, batches[0])
            quantized = replace(quantized, module=module)
            with stage(f"writing {path.name}"):
                return export_module(quantized, batches[0], path, dynamic=dynamic, source_sha256=loaded.hashed)
    if isinstance(model, nn.Module):
        refuse_prepared(model, "its weights are still trained")
    if fix and known is not None:
        raise WrongKindError(
            "--fix renames layers, and the scales of --calibration are of layers by their old names",
            "leave out one of the two: export calibrates a static recipe on its inputs",
        )
    chosen = recipe_for(recipe, known).with_patterns(only, exclude, fp8)
    if known is not None:
        known.check_recipe(chosen)
    chosen = chosen if weights is None else chosen.with_method(weight_method(weights))
    with modes_kept(model), Spill(path) as spill:
        with stage(f"loading {_named(model)}"):
            loaded = load_model(model, factory=factory, trust_pickle=trust_pickle, spill=spill)
        given = example_inputs(loaded, inputs, input_specs, seed)
        if known is not None:
            known.check_belongs(loaded.kind, loaded.sha256)
        copy = isinstance(model, nn.Module)
        module, batches = cast(loaded.module, given.batches, dtype, copy=copy, spill=spill)
        check_fits(module, batches[0])  # a quantized layer takes shapes and dtypes that the float one refuses
        owned = module is not loaded.module or not copy
        fixed: dict[str, str] = {}
        if fix:
            with stage("rewriting layers"):
                (module, fixed), owned = fix_module(module, batches[0], inplace=owned), True
        with stage("quantizing"):
            quantized = quantize_module(
                module,
                chosen,
                calibrate=calibrator_for(chosen, known, batches),
                inputs=batches,
                inplace=owned,
                spill=spill,
            )
        with stage(f"writing {path.name}"):
            return export_module(
                quantized,
                batches[0],
                path,
                dynamic=dynamic,
                source_sha256=loaded.hashed,
                fixed=fixed,
                looked_at=looked_at(quantized, batches),
            )


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
