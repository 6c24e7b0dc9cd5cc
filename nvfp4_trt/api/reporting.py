"""A model, its engine and its errors on one page; or two models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.api.sources import cast, example_inputs, model_path, modes_kept
from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.reporting import Measured, Reported, check_request, write_report
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.exporting import OnnxArtifact


def report(
    model: str | Path | OnnxArtifact,
    output: str | Path,
    *,
    other: str | Path | OnnxArtifact | None = None,
    engine: str | Path | None = None,
    other_engine: str | Path | None = None,
    gpu: str | None = None,
    dims: Sequence[str] = (),
    bench: str | Path | None = None,
    reference: Source | None = None,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
) -> Reported:
    """Write a report of a portable ONNX file, or of two: one HTML file that needs no network.

    Args:
        model: the ONNX file; or a report of one, a page or its JSON, which is taken as it is.
        output: the page to write.
        other: a second one, to compare with.
        engine: the engine that was built from the file, or its record; by default what lies beside the file under
            its name, as `model.engine.json` beside `model.onnx`.
        other_engine: the same of `other`.
        gpu: that times are modelled on; by default one of the engine's first target, or rtx5090. Where it is named
            the page shows what `plan` predicts beside the engine that was built.
        dims: of a file without an engine: ranges of dynamic dimensions for the plan, as `plan` takes them.
        bench: what `bench` measured of the engine of `model`: its `.json` file.
        reference: the float model, as `export` takes it, for errors and activations; of both files, if there are
            two.
        inputs: as for `export`; they come with `reference`.
        input_specs: as for `export`.
        seed: as for `export`.
        factory: as for `export`.
        trust_pickle: as for `export`.
        dtype: as for `export`.

    Raises:
        Nvfp4Error: any of `nvfp4_trt.errors`.
    """
    page, sources = Path(output), [model_path(each) for each in (model, other) if each is not None]
    if reference is None and (inputs is not None or input_specs):
        raise WrongKindError(
            "inputs were given, and no model to run on them: errors and activations need both",
            "add the float model: --reference MODEL",
        )
    engines = (engine, other_engine)
    files = check_request(page, sources, engines, gpu, runs=reference is not None)
    measured: dict[Path, Measured] = {}
    if reference is not None:
        measured = _measure(
            files, reference, inputs, input_specs, seed, factory, trust_pickle=trust_pickle, dtype=dtype
        )
    return write_report(page, sources, engines, gpu, measured, None if bench is None else Path(bench), dims)


def _measure(
    files: Sequence[Path],
    reference: Source,
    inputs: GivenInputs,
    specs: Sequence[str],
    seed: int,
    factory: str | None,
    *,
    trust_pickle: bool,
    dtype: str | torch.dtype | None,
) -> dict[Path, Measured]:
    """Run the float model and every file."""
    from nvfp4_trt.api.comparing_layers import layer_comparison
    from nvfp4_trt.comparison import compare_onnx
    from nvfp4_trt.loading import load_model
    from nvfp4_trt.portable import load
    from nvfp4_trt.reporting.activations import activation_distributions
    from nvfp4_trt.reporting.compared import errors_of, outputs_of

    found = {}
    with modes_kept(reference):
        names = {path: {layer.name for layer in load(path)[1].layers} for path in files}  # its errors first
        with stage(f"loading {_named(reference)}"):
            loaded = load_model(reference, factory=factory, trust_pickle=trust_pickle)
        given = example_inputs(loaded, inputs, specs, seed)
        module, batches = cast(loaded.module, given.batches, dtype, copy=not isinstance(reference, (str, Path)))
        for path in files:
            with stage(f"running {path}"):
                outputs = compare_onnx(path, module, batches, reference_name=loaded.source)
            with stage(f"comparing the layers of {path}"):
                layers = layer_comparison(
                    path,
                    module,
                    batches,
                    patterns=(),
                    quantized=None,
                    calibration=None,
                    min_agreement=None,
                    factory=None,
                    dtype=None,
                    owned=False,
                )
            with stage(f"counting what enters the layers of {path}"):
                activations = activation_distributions(path, batches)
            found[path] = Measured(
                reference=loaded.source,
                batches=len(batches),
                inputs_from=given.origin,
                input_options=_options(inputs, specs, seed),
                inputs_random=given.random,
                outputs=outputs_of(outputs),
                errors=errors_of(layers, names[path]),
                activations=activations,
            )
    return found


def _named(reference: Source) -> str:
    return str(reference) if isinstance(reference, (str, Path)) else f"this {type(reference).__name__}"


def _options(inputs: GivenInputs, specs: Sequence[str], seed: int) -> tuple[str, ...]:
    """Return the options of the command line that give the same inputs; none of those in memory."""
    if specs:
        return (*(word for spec in specs for word in ("--input", spec)), "--seed", str(seed))
    return ("--inputs", str(inputs)) if isinstance(inputs, (str, Path)) else ()
