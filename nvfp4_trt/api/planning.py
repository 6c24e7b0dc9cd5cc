"""What an engine of a model will be, before it is built."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvfp4_trt.api.sources import model_path
from nvfp4_trt.checking import is_onnx
from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.exporting import OnnxArtifact
from nvfp4_trt.planning import plan_file, plan_onnx
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.building import Optimize
    from nvfp4_trt.planning import Plan
    from nvfp4_trt.quantization import QuantizedModel
    from nvfp4_trt.recipe import Recipe


def plan(
    model: Source | QuantizedModel | OnnxArtifact,
    *,
    gpus: Sequence[str] = (),
    dims: Sequence[str] = (),
    optimize: Optimize = "fast",
    calibrate: str | Path | None = None,
    recipe: str | Path | Recipe | None = None,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    dynamic: Sequence[str] = (),
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
) -> Plan:
    """Predict kernels, bytes, memory and a modelled time of a model's engines; nothing is built.

    Args:
        model: a portable ONNX file; a float one, which is planned as `recipe` would quantize it (the weights of
            neither are read); or what `export` takes, which is exported to a temporary file first.
        gpus: of `costing.GPUS`; by default six of them.
        dims: ranges of dynamic dimensions, `NAME=MIN:OPT:MAX`: times are of OPT, memory is of MAX.
        optimize: which ways to lower the builder would try.
        calibrate: a file of measured times of one of these GPUs, to scale the modelled ones by.
        recipe: see `export` for this and what follows. Of it, a float ONNX file takes this and the patterns, and a
            portable one nothing.
        inputs: example batches.
        input_specs: random inputs instead.
        seed: of random inputs.
        dynamic: dynamic dimensions.
        only: patterns of the layers to quantize.
        exclude: patterns of layers to leave as they are.
        fp8: patterns of layers to make FP8.
        factory: what makes the module of a state dict.
        trust_pickle: let the file run code.
        dtype: cast the model first.

    Raises:
        WrongKindError: an ONNX file with options that are of an export.
        Nvfp4Error: any of `export` and of `planning.plan_onnx`.
    """
    measured = None if calibrate is None else Path(calibrate)
    quantizing: dict[str, Any] = {"recipe": recipe, "only": only, "exclude": exclude, "fp8": fp8}
    tracing: dict[str, Any] = {
        "inputs": inputs,
        "input_specs": input_specs,
        "dynamic": dynamic,
        "factory": factory,
        "dtype": dtype,
    }
    planning: dict[str, Any] = {"gpus": gpus, "dims": dims, "optimize": optimize, "calibrate": measured}
    if isinstance(model, OnnxArtifact) or (isinstance(model, (str, Path)) and is_onnx(Path(model))):
        given = [name.replace("_", "-") for name, value in tracing.items() if value is not None and value != ()]
        if given:
            raise WrongKindError(
                f"{model_path(model)} is exported already, and --{given[0]} is of an export",
                "leave it out, or give the model that the file was exported from",
            )
        return plan_onnx(model_path(model), **quantizing, **planning)
    from nvfp4_trt.api.exporting import export

    name = str(model) if isinstance(model, (str, Path)) else type(getattr(model, "module", model)).__name__
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with stage(f"exporting {name}"):
            export(model, path, seed=seed, trust_pickle=trust_pickle, **quantizing, **tracing)
        with stage("planning"):
            return plan_file(path, name=name, **planning)
