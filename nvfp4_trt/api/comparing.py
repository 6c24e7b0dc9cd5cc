"""A portable ONNX file beside the model that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.api.sources import cast, example_inputs, model_path, modes_kept
from nvfp4_trt.atomic import check_writable
from nvfp4_trt.errors import InputsMissingError
from nvfp4_trt.loading import load_model
from nvfp4_trt.portable import load as load_portable
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.comparison import Comparison
    from nvfp4_trt.exporting import OnnxArtifact


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

    Raises:
        BelowThresholdError: a threshold was missed.
        Nvfp4Error: any other of `nvfp4_trt.errors`.
    """
    from nvfp4_trt.comparison import compare_onnx

    path = model_path(model)
    for saved in (save_inputs, save_outputs):
        if saved is not None:
            check_writable(Path(saved))
    if not isinstance(reference, nn.Module) and Path(reference).suffix == ".json":
        result = _compare_saved(path, Path(reference), inputs)
    else:
        load_portable(path)  # its own errors first: loading a reference may take long
        with modes_kept(reference):
            with stage("loading the reference"):
                loaded = load_model(reference, factory=factory, trust_pickle=trust_pickle)
            given = example_inputs(loaded, inputs, input_specs, seed)
            module, batches = cast(loaded.module, given.batches, dtype, copy=isinstance(reference, nn.Module))
            result = compare_onnx(
                path,
                module,
                batches,
                reference_name=loaded.source,
                save_inputs=None if save_inputs is None else Path(save_inputs),
                save_outputs=None if save_outputs is None else Path(save_outputs),
            )
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
