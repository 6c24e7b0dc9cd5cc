"""The public functions: quantizing, calibrating, exporting, checkpoints, building, comparing."""

from __future__ import annotations

import copy as copying
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nvfp4_trt.atomic import check_writable
from nvfp4_trt.calibration import (
    Calibration,
    calibrate_model,
    calibrator_for,
    given_calibration,
    join,
    recipe_for,
)
from nvfp4_trt.checkpoints import (
    Converted,
    Format,
    Saved,
    convert_checkpoint,
    is_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from nvfp4_trt.errors import InputsMissingError, RecipeInvalidError, WrongKindError
from nvfp4_trt.exporting import OnnxArtifact, export_module
from nvfp4_trt.fixing import fix_module
from nvfp4_trt.loading import (
    Inputs,
    LoadedModel,
    SourceKind,
    Spill,
    check_fits,
    load_inputs,
    load_model,
    stream_inputs,
)
from nvfp4_trt.loading.hashing import hash_module
from nvfp4_trt.portable import load as load_portable
from nvfp4_trt.qat import refuse_prepared
from nvfp4_trt.quantization import QuantizedModel, quantize_module
from nvfp4_trt.quantization.packed_files import PackedFile, pack_file
from nvfp4_trt.quantization.transforms import refuse_transforms
from nvfp4_trt.recipe import DEFAULT_RECIPE, Recipe, RuleName, WeightMethod, load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nvfp4_trt.building import EngineArtifact, Optimize
    from nvfp4_trt.building.spec import PluginForm
    from nvfp4_trt.comparison import Comparison
    from nvfp4_trt.kernels import Pack
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.mixing import Budget, Keep, Method, Sensitivity
    from nvfp4_trt.serving import ServingSet

    Source = str | Path | nn.Module
    GivenInputs = str | Path | Iterable[Batch] | Inputs | None

__all__ = [
    "build",
    "build_buckets",
    "build_plugin",
    "calibrate",
    "compare",
    "convert",
    "export",
    "pack",
    "quantize",
    "save",
    "sensitivity",
]


def quantize(
    model: nn.Module,
    recipe: str | Path | Recipe | None = None,
    *,
    inputs: Iterable[Batch] | None = None,
    calibration: str | Path | Calibration | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    weights: str | None = None,
    inplace: bool = False,
) -> QuantizedModel:
    """Quantize a module's linear layers to NVFP4 or FP8.

    Args:
        model: any module. It is copied, unless `inplace`.
        recipe: a built-in name, a YAML file, or a `Recipe`; by default the calibration's, or w4a4-dynamic-token.
        inputs: calibration batches, by the names of the forward's parameters; a static recipe needs them, or
        calibration: what `calibrate` returned, or its file.
        only: patterns of the layers to quantize, instead of the recipe's.
        exclude: patterns of layers to leave as they are, beside the recipe's.
        fp8: patterns of layers to make FP8 instead, beside the recipe's.
        recipe: a built-in name, a YAML file, or a `Recipe`.
        inputs: calibration batches, by the names of the forward's parameters; a static recipe and the weight
            methods with `gptq` need them.
        only: patterns of the layers to quantize, instead of the recipe's.
        exclude: patterns of layers to leave as they are, beside the recipe's.
        weights: the weight method of all layers, instead of the recipe's.
        inplace: change `model` itself, which saves the memory of a copy.

    Returns:
        The quantized module, which runs on CPU and CUDA, and the table of its layers.

    Raises:
        RecipeInvalidError, PatternMatchesNothingError, NothingToQuantizeError, NonfiniteWeightError:
            see `quantize_module`.
        InputsMissingError, NonfiniteCalibrationError: a static recipe and its inputs.
        CalibrationInvalidError, CalibrationMismatchError: a calibration that is broken, or not of this model.
        PreparedAlreadyError: the model is prepared for training.
    """
    refuse_prepared(model, "its weights are still trained")
    given = given_calibration(calibration)
    chosen = recipe_for(recipe, given).with_patterns(only, exclude, fp8)
    if given is not None:
        given.check_recipe(chosen)
    chosen = chosen if weights is None else chosen.with_method(_method(weights))
    if given is not None and given.source_kind is SourceKind.MODULE:
        given.check_belongs(SourceKind.MODULE, hash_module(model))
    batches = () if inputs is None else inputs
    if chosen.transforms or chosen.weights.needs_inputs:  # which run the batches too
        batches = list(batches)
    calibrator = calibrator_for(chosen, given, batches)
    return quantize_module(model, chosen, calibrate=calibrator, inputs=batches, inplace=inplace)


def calibrate(
    model: Source,
    recipe: str | Path | Recipe = "w4a4-static",
    *,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    sharded: bool = False,
    output: str | Path | None = None,
    state: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    inplace: bool = False,
) -> Calibration:
    """Find the static activation scales of a model; in every process that torchrun started, the same.

    Args:
        model: a path to any of the five kinds that `nvfp4_trt.loading` reads, or a module (left unchanged).
        recipe: with static scaling: a built-in name, a YAML file, or a `Recipe`.
        inputs: batches (any iterable, taken one at a time), a file of them, or `package.module:function`.
        input_specs: random inputs instead, `NAME:DTYPE:SHAPE[:LOW..HIGH]` each.
        seed: of random inputs.
        only: patterns of the layers to calibrate, instead of the recipe's.
        exclude: patterns of layers to leave out, beside the recipe's.
        fp8: patterns of layers that will be FP8, beside the recipe's; their observer is `max`.
        factory: `package.module:function` that makes the module of a state dict or safetensors file.
        trust_pickle: let the file run code where loading it means that.
        dtype: cast the model and its floating inputs first: `float32`, `float16` or `bfloat16`.
        device: run there, for example `cuda`: the GPU of the process's own rank; by default where the model is.
        sharded: `inputs` are this process's own share; otherwise batch i is for rank i mod N.
        output: a `.json` or `.safetensors` file for the result; the first process writes it.
        state: a file that keeps the statistics meanwhile; where it exists, the calibration goes on from it.
        progress: called with the number of batches that this process has run.
        inplace: cast, move and open `model` itself, which saves the memory of a copy.

    Raises:
        Nvfp4Error: any of `nvfp4_trt.errors`, each with its code and a hint.
    """
    place = None if device is None else _own_device(torch.device(device))
    written = None if output is None else Path(output)
    with join(place) as ranks, _modes_kept(model):
        if written is not None and ranks.rank == 0:
            check_writable(written)
        chosen = load_recipe(recipe).with_patterns(only, exclude, fp8)
        loaded = load_model(model, factory=factory, trust_pickle=trust_pickle)
        copied = isinstance(model, nn.Module) and not inplace
        module, _ = _cast(loaded.module, (), dtype, copy=copied)
        if place is not None:
            module = (copying.deepcopy(module) if copied and module is loaded.module else module).to(place)
        made = calibrate_model(
            loaded,
            module,
            chosen,
            (_moved(batch, dtype, place) for batch in _streamed(loaded, inputs, input_specs, seed)),
            ranks=ranks,
            sharded=sharded,
            state=None if state is None else Path(state),
            progress=progress,
            inplace=not copied or module is not loaded.module,
        )
        if written is not None and ranks.rank == 0:
            made.save(written)
    return made


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
        with _modes_kept(held), Spill(path) as spill:
            loaded, quantized = _quantized(model, factory, recipe)
            given = _inputs(loaded, inputs, input_specs, seed)
            copied = isinstance(model, QuantizedModel)
            module, batches = _cast(quantized.module, given.batches, dtype, copy=copied, spill=spill)
            check_fits(module, batches[0])
            quantized = replace(quantized, module=module)
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
    chosen = chosen if weights is None else chosen.with_method(_method(weights))
    with _modes_kept(model), Spill(path) as spill:
        loaded = load_model(model, factory=factory, trust_pickle=trust_pickle, spill=spill)
        given = _inputs(loaded, inputs, input_specs, seed)
        if known is not None:
            known.check_belongs(loaded.kind, loaded.sha256)
        copy = isinstance(model, nn.Module)
        module, batches = _cast(loaded.module, given.batches, dtype, copy=copy, spill=spill)
        check_fits(module, batches[0])  # a quantized layer takes shapes and dtypes that the float one refuses
        owned = module is not loaded.module or not copy
        if fix:
            module, owned = fix_module(module, batches[0], inplace=owned).module, True
        quantized = quantize_module(
            module,
            chosen,
            calibrate=calibrator_for(chosen, known, batches),
            inputs=batches,
            inplace=owned,
            spill=spill,
        )
        return export_module(quantized, batches[0], path, dynamic=dynamic, source_sha256=loaded.hashed)


def sensitivity(
    model: Source,
    *,
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    method: Method = "auto",
    budget: str | Budget | None = None,
    keep: Keep = "fp8",
    output: str | Path | None = None,
    plot: str | Path | None = None,
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | torch.dtype | None = None,
    progress: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Find what quantizing each layer does to the model's output and, for a budget, which layers to keep.

    Args:
        model: as for `export`; a module in memory stays as it was.
        inputs: as for `export`; every batch is run.
        input_specs: as for `export`.
        seed: as for `export`.
        recipe: whose layers, and how they are quantized.
        only: as for `export`.
        exclude: as for `export`.
        fp8: as for `export`; these layers are FP8 in every mixture, and not looked at.
        method: `exact`, `estimate` or `auto`, see `nvfp4_trt.mixing.measure_sensitivity`.
        budget: `sqnr=DB`, or `metric:module:function>=VALUE`, see `nvfp4_trt.mixing.parse_budget`.
        keep: what layers are kept in: `fp8`, or the `model`'s own dtype.
        output: the `.yaml` file for the recipe found; needs a budget.
        plot: a `.png` or `.svg` file.
        factory: as for `export`.
        trust_pickle: as for `export`.
        dtype: as for `export`.
        progress: called with a line of text that says how far it is.

    Raises:
        BudgetUnmetError: no mixture of precisions meets the budget.
        Nvfp4Error: any other of `nvfp4_trt.errors`.
    """
    from nvfp4_trt.mixing import check_outputs, measure_sensitivity, parse_budget, write_plot, write_recipe

    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    recipe_path, plot_path = (None if path is None else Path(path) for path in (output, plot))
    check_outputs(recipe_path, plot_path, has_budget=wanted is not None)
    chosen = load_recipe(recipe).with_patterns(only, exclude, fp8)
    refuse_transforms(chosen, "sensitivity is measured on the model as it is")
    with _modes_kept(model):
        loaded = load_model(model, factory=factory, trust_pickle=trust_pickle)
        given = _inputs(loaded, inputs, input_specs, seed)
        module, batches = _cast(loaded.module, given.batches, dtype, copy=isinstance(model, nn.Module))
        result = measure_sensitivity(
            module, chosen, batches, method=method, budget=wanted, keep=keep, progress=progress
        )
    if recipe_path is not None:
        write_recipe(result, recipe_path)
    if plot_path is not None:
        write_plot(result, plot_path)
    return result


def pack(
    source: str | Path,
    output: str | Path,
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    rule: str = "spec",
    method: str = "max",
) -> PackedFile:
    """Pack the weights of a safetensors file into NVFP4, and copy its other tensors.

    Args: and raises: see `nvfp4_trt.quantization.packed_files.pack_file`.
    """
    return pack_file(
        Path(source), Path(output), only=only, exclude=exclude, rule=RuleName(rule), method=_method(method)
    )


def convert(source: str | Path, output: str | Path, *, to: str) -> Converted:
    """Write an NVFP4 checkpoint in another format: `packed`, `torchao`, `compressed-tensors` or `modelopt`.

    Args: and raises: see `nvfp4_trt.checkpoints.convert_checkpoint`.
    """
    return convert_checkpoint(Path(source), Path(output), Format(to))


def save(model: QuantizedModel, output: str | Path) -> Saved:
    """Write a quantized model as a checkpoint: its codes and scales, static input scales among them.

    Args: and raises: see `nvfp4_trt.checkpoints.save_checkpoint`. Besides:

    Raises:
        RecipeInvalidError: the recipe has transforms.
    """
    refuse_transforms(model.recipe, "no checkpoint format holds what it adds to layers")
    return save_checkpoint(model, Path(output))


def build(
    model: str | Path | OnnxArtifact,
    output: str | Path,
    *,
    backend: str | None = None,
    targets: Sequence[str] = (),
    dims: Sequence[str] = (),
    allow_higher_precision: Sequence[str] = (),
    plugin: bool | str | Path = False,
    plugin_library: str | Path | None = None,
    plugin_form: PluginForm = "jit",
    lowered: str | Path | None = None,
    log: str | Path | None = None,
    optimize: Optimize = "fast",
    gpu: str | None = None,
    budget: float | None = None,
    cache: bool = True,
) -> EngineArtifact:
    """Lower a portable ONNX file, build an engine from it in a child process, and audit the engine.

    Args: and raises: see `nvfp4_trt.building.build_engine`.
    """
    from nvfp4_trt.building import build_engine

    return build_engine(
        _path(model),
        Path(output),
        backend=backend,
        targets=targets,
        dims=dims,
        allow=allow_higher_precision,
        plugin=plugin if isinstance(plugin, bool) else Path(plugin),
        plugin_library=None if plugin_library is None else Path(plugin_library),
        plugin_form=plugin_form,
        lowered=None if lowered is None else Path(lowered),
        log=None if log is None else Path(log),
        optimize=optimize,
        gpu=gpu,
        budget=budget,
        cache=cache,
    )


def build_buckets(
    model: str | Path | OnnxArtifact,
    folder: str | Path,
    *,
    buckets: str | Sequence[str | Mapping[str, int]],
    pads: Sequence[str] = (),
    with_dynamic: bool = True,
    share_weights: bool = False,
    allow_higher_precision: Sequence[str] = (),
    log: str | Path | None = None,
    **options: Any,
) -> ServingSet:
    """Build an engine for each of several fixed shapes, a dynamic one beside them, and a manifest: a serving set.

    Args: and raises: see `nvfp4_trt.serving.build_buckets`; other keywords are those of `build`.
    """
    from nvfp4_trt.serving import build_buckets as build_set

    return build_set(
        _path(model),
        Path(folder),
        buckets=buckets,
        pads=pads,
        with_dynamic=with_dynamic,
        share_weights=share_weights,
        allow=allow_higher_precision,
        log=None if log is None else Path(log),
        **options,
    )


def build_plugin(
    output: str | Path,
    *,
    sms: Sequence[int] = (),
    kernels: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    force: bool = False,
) -> Pack:
    """Compile the kernels of the TensorRT plugin into a folder of cubins and a manifest; needs no GPU.

    Args: and raises: see `nvfp4_trt.kernels.build.build_pack`.
    """
    from nvfp4_trt.kernels.build import build_pack

    return build_pack(output, sms=sms, kernels=kernels, dtypes=dtypes, force=force)


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

    path = _path(model)
    for saved in (save_inputs, save_outputs):
        if saved is not None:
            check_writable(Path(saved))
    if not isinstance(reference, nn.Module) and Path(reference).suffix == ".json":
        result = _compare_saved(path, Path(reference), inputs)
    else:
        load_portable(path)  # its own errors first: loading a reference may take long
        with _modes_kept(reference):
            loaded = load_model(reference, factory=factory, trust_pickle=trust_pickle)
            given = _inputs(loaded, inputs, input_specs, seed)
            module, batches = _cast(loaded.module, given.batches, dtype, copy=isinstance(reference, nn.Module))
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


@contextmanager
def _modes_kept(source: Source) -> Iterator[None]:
    """Give a module in memory its training modes back: loading puts it into evaluation mode."""
    modes = [(m, m.training) for m in source.modules()] if isinstance(source, nn.Module) else []
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


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


def _named(model: str | Path | QuantizedModel) -> str:
    return f"this {type(model.module).__name__}" if isinstance(model, QuantizedModel) else str(model)


def _path(model: str | Path | OnnxArtifact) -> Path:
    return model.path if isinstance(model, OnnxArtifact) else Path(model)


def _own_device(device: torch.device) -> torch.device:
    """Return the device itself, or of several GPUs the one that belongs to this process."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def _method(name: str) -> WeightMethod:
    try:
        return WeightMethod(name)
    except ValueError:
        raise RecipeInvalidError(
            f"{name!r} is not a weight method", f"choose one of {', '.join(WeightMethod)}"
        ) from None


def _inputs(loaded: LoadedModel, inputs: GivenInputs, specs: Sequence[str], seed: int) -> Inputs:
    if isinstance(inputs, Inputs):
        return inputs
    if inputs is None or isinstance(inputs, (str, Path)):
        source = None if inputs is None else str(inputs)
        return load_inputs(loaded.module, specs=specs, source=source, seed=seed, example=loaded.example)
    batches = tuple(inputs)
    if not batches:
        return load_inputs(loaded.module)  # the error that says what is missing
    return Inputs(batches, "given in memory", random=False)


def _streamed(loaded: LoadedModel, inputs: GivenInputs, specs: Sequence[str], seed: int) -> Iterable[Batch]:
    """Return batches that are not all made at once."""
    if isinstance(inputs, Inputs):
        return inputs.batches
    if inputs is None or isinstance(inputs, (str, Path)):
        source = None if inputs is None else str(inputs)
        return stream_inputs(loaded.module, specs=specs, source=source, seed=seed, example=loaded.example)
    return inputs


def _cast(
    module: nn.Module,
    batches: Sequence[Batch],
    dtype: str | torch.dtype | None,
    *,
    copy: bool,
    spill: Spill | None = None,
) -> tuple[nn.Module, tuple[Batch, ...]]:
    if dtype is None:
        return module, tuple(batches)
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    changed = copying.deepcopy(module) if copy else module
    if spill is not None:
        spill.cast_module(changed, wanted)
    return changed.to(wanted), tuple(_moved(batch, wanted, None) for batch in batches)


def _moved(batch: Batch, dtype: str | torch.dtype | None, device: torch.device | None) -> Batch:
    """Return a batch on the device, its floating tensors in the dtype."""
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return {
        name: tensor.to(device=device, dtype=wanted if tensor.is_floating_point() else None)
        for name, tensor in batch.items()
    }
