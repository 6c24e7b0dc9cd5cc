"""A portable ONNX file beside the model that it came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.api.comparing_layers import layer_comparison, whole_runners
from nvfp4_trt.api.sources import cast, example_inputs, model_path, modes_kept
from nvfp4_trt.atomic import check_writable
from nvfp4_trt.errors import InputsMissingError, WrongKindError
from nvfp4_trt.loading import load_model
from nvfp4_trt.portable import load as load_portable
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.calibration import Calibration
    from nvfp4_trt.comparison import Comparison
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.quantization import QuantizedModel


def compare(
    model: str | Path | OnnxArtifact,
    reference: Source,
    *,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
    min_sqnr: float | None = None,
    min_cosine: float | None = None,
    max_abs_error: float | None = None,
    save_inputs: str | Path | None = None,
    save_outputs: str | Path | None = None,
    per_layer: bool = False,
    layers: Sequence[str] = (),
    quantized: str | Path | QuantizedModel | None = None,
    calibration: str | Path | Calibration | None = None,
    min_agreement: float | None = None,
    save_tapped: str | Path | None = None,
    lowered: str | Path | None = None,
    engine: str | Path | None = None,
) -> Comparison:
    """Run a portable ONNX file on ONNX Runtime and compare it with the model that it came from.

    Args:
        model: the ONNX file.
        reference: the float model, as `export` takes it; or outputs of it that were saved (`.json`), with the
            inputs that they belong to as `inputs`.
        inputs: as for `export`.
        input_specs: as for `export`.
        seed: as for `export`.
        factory: as for `export`.
        trust_pickle: as for `export`.
        dtype: as for `export`.
        min_sqnr: lowest signal to quantization noise ratio of any output, in dB.
        min_cosine: lowest cosine similarity of any output.
        max_abs_error: largest absolute error of any output.
        save_inputs: write the inputs for `polygraphy run --load-inputs`.
        save_outputs: write the reference's outputs for `polygraphy run --load-outputs`.
        per_layer: compare every quantized layer too, in the quantized torch model and in the file; the result's
            `layers`, whose `check` raises where the two disagree.
        layers: patterns of the layers to look at; all by default.
        quantized: the quantized torch model, or a checkpoint of it; by default the reference is quantized again,
            as the file's recipe says, on these inputs.
        calibration: static scales for that: what `calibrate` returned, or its file.
        min_agreement: lowest SQNR, in dB, of the quantized torch model and the file at one layer on one input; by
            default `comparison.BOUNDS_DB`.
        save_tapped: write the ONNX file with what enters and leaves each of these layers among its outputs.
        lowered: what `lower` made of such a file; run by ONNX's reference evaluator and compared too.
        engine: what `build engine` made of such a file; run on this machine's GPU and compared too. Not yet run on
            a Blackwell GPU by this project.

    Raises:
        BelowThresholdError: a threshold was missed, or an output holds NaN.
        WrongKindError: the reference is saved outputs, or `per_layer` is not asked for and options of it are.
        Nvfp4Error: any other of `nvfp4_trt.errors`.
    """
    from nvfp4_trt.comparison import compare_onnx

    path = model_path(model)
    saved_reference = not isinstance(reference, nn.Module) and Path(reference).suffix == ".json"
    about_layers = (quantized, calibration, min_agreement, save_tapped, lowered, engine)
    if not per_layer and (layers or any(each is not None for each in about_layers)):
        raise WrongKindError(
            "--layer, --quantized, --calibration, --min-agreement, --save-tapped, --lowered and --engine are of "
            "--per-layer",
            "add --per-layer",
        )
    whole = whole_runners(lowered, engine)
    if per_layer and saved_reference:
        raise WrongKindError(
            f"{reference} holds outputs, and no layers",
            "give the model itself as --reference, or drop --per-layer",
        )
    for saved in (save_inputs, save_outputs, save_tapped):
        if saved is not None:
            check_writable(Path(saved))
    if saved_reference:
        result = _compare_saved(path, Path(str(reference)), inputs)
    else:
        load_portable(path)  # its own errors first: loading a reference may take long
        with modes_kept(reference):
            with stage("loading the reference"):
                loaded = load_model(reference, factory=factory, trust_pickle=trust_pickle)
            given = example_inputs(loaded, inputs, input_specs, seed)
            in_memory = isinstance(reference, nn.Module)
            module, batches = cast(loaded.module, given.batches, dtype, copy=in_memory)
            result = compare_onnx(
                path,
                module,
                batches,
                reference_name=loaded.source,
                save_inputs=None if save_inputs is None else Path(save_inputs),
                save_outputs=None if save_outputs is None else Path(save_outputs),
            )
            if per_layer:
                found = layer_comparison(
                    path,
                    module,
                    batches,
                    patterns=layers,
                    quantized=quantized,
                    calibration=calibration,
                    min_agreement=min_agreement,
                    save_tapped=None if save_tapped is None else Path(save_tapped),
                    whole=whole,
                    factory=factory,
                    dtype=dtype,
                    owned=not in_memory or module is not loaded.module,
                )
                result = replace(result, layers=found)
    result.check(min_sqnr, min_cosine, max_abs_error)
    return result


def _compare_saved(path: Path, outputs: Path, inputs: GivenInputs) -> Comparison:
    """Compare with outputs that were saved, on the inputs that were saved with them."""
    from nvfp4_trt.comparison import compare_saved

    if not isinstance(inputs, (str, Path)):
        raise InputsMissingError(
            f"{outputs} holds saved outputs: the inputs that they belong to are needed too",
            "give --inputs INPUTS.json, which --save-inputs wrote beside them",
        )
    return compare_saved(path, outputs, Path(inputs))
