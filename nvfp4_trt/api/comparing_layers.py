"""A portable ONNX file beside the quantized model and the float one, layer by layer."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.api.sources import cast
from nvfp4_trt.calibration import calibrator_for, given_calibration, looked_at
from nvfp4_trt.checkpoints import load_checkpoint
from nvfp4_trt.errors import FileMissingError
from nvfp4_trt.fixing import fix_module
from nvfp4_trt.patterns import matching
from nvfp4_trt.portable import load as load_portable
from nvfp4_trt.quantization import QuantizedModel, quantize_module
from nvfp4_trt.quantization.convert import open_attention
from nvfp4_trt.recipe import Recipe
from nvfp4_trt.runners import EvaluatorRunner
from nvfp4_trt.runners.built_engine import built_engine_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from polygraphy.backend.base import BaseRunner
    from torch import nn

    from nvfp4_trt.calibration import Calibration
    from nvfp4_trt.comparison import LayerComparison
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.portable import Metadata


def layer_comparison(
    path: Path,
    module: nn.Module,
    batches: Sequence[Batch],
    *,
    patterns: Sequence[str],
    quantized: str | Path | QuantizedModel | None,
    calibration: str | Path | Calibration | None,
    min_agreement: float | None,
    factory: str | None,
    dtype: str | torch.dtype | None,
    owned: bool,
    save_tapped: Path | None = None,
    whole: Mapping[str, BaseRunner] | None = None,
) -> LayerComparison:
    """Return what `comparison.compare_layers` finds.

    Args:
        path: the portable file.
        module: the float model, in the dtype that it is compared in.
        batches: its inputs.
        patterns: of layers to look at.
        quantized: see `compare`.
        calibration: see `compare`.
        min_agreement: see `compare`.
        factory: what makes the module of a checkpoint.
        dtype: to cast a checkpoint to.
        owned: whether `module` may be changed.
        save_tapped: see `compare`.
        whole: see `whole_runners`.

    Raises:
        Nvfp4Error: those of loading and quantizing, and of `comparison.compare_layers`.
    """
    from nvfp4_trt.comparison import compare_layers

    metadata = load_portable(path)[1]
    reference = open_attention(module if owned else copy.deepcopy(module))
    if metadata.fixed:
        reference = fix_module(reference, batches[0], inplace=True).module
    other_inputs = False
    if quantized is None:
        made = _as_exported(metadata, reference, batches, given_calibration(calibration))
        other_inputs = bool(metadata.looked_at) and metadata.looked_at != looked_at(made, batches)
    elif isinstance(quantized, QuantizedModel):
        made = quantized
    else:
        made = load_checkpoint(Path(quantized), factory=factory).quantized
        cast(made.module, (), dtype, copy=False)
    made.module.eval()
    layers = [layer.name for layer in made.layers if layer.quantized]
    names = sorted(matching(layers, patterns, option="--layer")) if patterns else None
    found = compare_layers(
        path,
        reference,
        made,
        batches,
        names=names,
        bound_db=min_agreement,
        save_tapped=save_tapped,
        whole=whole,
    )
    return replace(found, other_inputs=other_inputs)


def whole_runners(lowered: str | Path | None, engine: str | Path | None) -> dict[str, BaseRunner]:
    """Return runners of what was made from a tapped file, by the names that they have in a comparison.

    Raises:
        FileMissingError: one of the two does not exist.
        Nvfp4Error: of the engine, see `built_engine_runner`.
    """
    found: dict[str, BaseRunner] = {}
    if lowered is not None:
        if not Path(lowered).is_file():
            raise FileMissingError(f"{lowered} does not exist", "make it with `nvfp4-trt lower`")
        found["lowered"] = EvaluatorRunner(Path(lowered))
    if engine is not None:
        found["engine"] = built_engine_runner(Path(engine))
    return found


def _as_exported(
    metadata: Metadata, reference: nn.Module, batches: Sequence[Batch], calibration: Calibration | None
) -> QuantizedModel:
    """Quantize the float model once more as the file says that it was."""
    recipe = Recipe.model_validate(metadata.recipe)
    if calibration is not None:
        calibration.check_recipe(recipe)
    calibrate = calibrator_for(recipe, calibration, batches)
    return quantize_module(reference, recipe, calibrate=calibrate, inputs=batches)
