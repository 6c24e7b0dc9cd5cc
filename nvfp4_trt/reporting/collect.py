"""From files to a report's data; what was not given is said, and how to give it."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nvfp4_trt.building import read_record, record_of, shapes_of
from nvfp4_trt.errors import FileMissingError, NotOurOnnxError, Nvfp4Error, OnnxInvalidError, WrongKindError
from nvfp4_trt.portable import layer_scales, load
from nvfp4_trt.recipe import Recipe
from nvfp4_trt.reporting import engine as engines
from nvfp4_trt.reporting import planned
from nvfp4_trt.reporting.commands import commands
from nvfp4_trt.reporting.data import Missing, Report
from nvfp4_trt.reporting.distributions import weight_distributions
from nvfp4_trt.reporting.measured import Measured
from nvfp4_trt.reporting.sizes import dtype_name, shares, sized_layers, stored_tensors
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.costing import TensorShapes
    from nvfp4_trt.planning import Plan
    from nvfp4_trt.portable import Metadata
    from nvfp4_trt.reporting.data import Layer
    from nvfp4_trt.timing import Bench


def collect(
    source: Path,
    *,
    engine: Path | None = None,
    gpu: str | None = None,
    dims: Sequence[str] = (),
    measured: Measured | None = None,
    bench: Bench | None = None,
) -> Report:
    """Read a portable file, and the record of an engine that was built from it.

    Args:
        source: a file that `nvfp4-trt export` wrote.
        engine: an engine, or its record (`.json`); by default what lies beside `source` under its name, if
            anything does.
        gpu: that times are modelled on, see `costing.find_gpu`. Where it is named the engine is planned too, as it
            always is without one.
        dims: ranges of dynamic dimensions for the plan, where there is no engine.
        measured: what running the model told, if it was run.
        bench: what timing the engine told, if it was timed.

    Raises:
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load` and `building.read_record`.
        NotOurOnnxError: also where the recipe is one of another version.
        OnnxInvalidError: a weight cannot be read, or the graph cannot be lowered as the record says.
        WrongKindError: the record is of an engine of another model, the times of another engine, or ranges are
            given beside an engine.
        Nvfp4Error: of `planning.plan_file`, where a plan was asked for.
        UnknownGpuError: there are no figures for the GPU.
    """
    model, metadata = load(source)
    recipe = _recipe(metadata, source)
    tensors = stored_tensors(model)
    layers = _with_weights(sized_layers(metadata.layers, tensors), model, source)
    told = Measured() if measured is None else measured
    layers = [_with_measured(layer, told) for layer in layers]
    io = {name: _io(values) for name, values in (("inputs", model.graph.inputs), ("outputs", model.graph.outputs))}
    record_file = _record_file(source, engine)
    described = record = None
    if record_file is not None:
        record = read_record(record_file)
        _check_belongs(record, metadata, record_file, source)
        described = engines.describe(record, _shapes(model, record, source), gpu)
        layers = engines.with_engine(layers, record, described)
    if bench is not None:
        _check_times(bench, record, source)
    plan, unplanned = _planned(source, gpu, io["inputs"], record, dims)
    if plan is not None and record is None:
        layers = planned.with_plan(layers, plan)
    return Report(
        name=source.name,
        onnx_bytes=_size(source),
        parameters=sum(layer.parameters for layer in layers),
        recipe=recipe,
        scale_rule=metadata.scale_rule,
        source_sha256=metadata.source_sha256,
        versions=metadata.versions,
        made_by=version("nvfp4-trt"),
        **io,
        layers=tuple(layers),
        bytes=shares(tensors),
        engine=described,
        plan=plan,
        bench=bench,
        accuracy=told.outputs,
        batches=told.batches,
        inputs_from=told.inputs_from,
        inputs_random=told.inputs_random,
        reference=told.reference,
        commands=commands(
            source.name, metadata, recipe, io["inputs"], record, told.reference, told.input_options, gpu or ""
        ),
        missing=tuple(_missing(source, described is not None, told, unplanned)),
    )


def _shapes(model: ir.Model, record: EngineRecord, source: Path) -> TensorShapes:
    try:
        return shapes_of(model, record)
    except Exception as error:
        # Lowering takes for granted what the exporter makes sure of; a graph that was edited can be anything.
        raise OnnxInvalidError(
            f"{source} cannot be lowered as the record of {record.engine} says: {error}".split("\n")[0],
            "build the engine again from this file, or move its record away to report without it",
        ) from error


def _recipe(metadata: Metadata, source: Path) -> Recipe:
    try:
        return Recipe.model_validate(metadata.recipe)
    except ValidationError as error:
        raise NotOurOnnxError(
            f"{source}: its recipe is not one that this version of nvfp4-trt knows",
            "read the file with the version that made it, or export it again",
        ) from error


def _with_weights(layers: list[Layer], model: ir.Model, source: Path) -> list[Layer]:
    try:
        scales, distributions = layer_scales(model), weight_distributions(model)
    except (ValueError, OSError) as error:
        raise OnnxInvalidError(
            f"{source}: a weight of it cannot be read: {error}".split("\n")[0], "copy it again, or export it again"
        ) from error
    made = []
    for layer in layers:
        update: dict[str, Any] = {}
        if layer.name in scales:
            found = scales[layer.name]
            update["activation_scale"] = found.activation_scale
            if found.problem:
                update["reason"] = found.problem
            else:
                update["weight_scale"] = found.weight_scale
        if layer.name in distributions:
            update["weights"], update["weight_blocks"] = distributions[layer.name]
        made.append(layer.model_copy(update=update))
    return made


def _with_measured(layer: Layer, told: Measured) -> Layer:
    codes, blocks, run = told.activations.get(layer.name, (None, None, None))
    update = {
        "error": told.errors.get(layer.name),
        "activations": codes,
        "activation_blocks": blocks,
        "activation_scales": run,
    }
    return layer.model_copy(update=update)


def _io(values: Sequence[ir.Value]) -> dict[str, tuple[str, ...]]:
    return {
        str(value.name): (
            dtype_name(value.dtype),
            *(str(dim if isinstance(dim, int) else dim.value) for dim in value.shape or ()),
        )
        for value in values
    }


def _size(source: Path) -> int:
    beside = source.with_name(f"{source.name}.data")
    return source.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _record_file(source: Path, engine: Path | None) -> Path | None:
    """Return the record to read: of the engine that is named, or of one beside the file that has its name."""
    if engine is None:
        beside = record_of(source.with_suffix(".engine"))
        return beside if beside.is_file() else None
    if not engine.is_file():
        raise FileMissingError(f"{engine} does not exist", "give an engine beside its record, or the record")
    return engine if engine.suffix == ".json" else record_of(engine)


def _check_belongs(record: EngineRecord, metadata: Metadata, record_file: Path, source: Path) -> None:
    if (record.source_sha256, record.recipe) != (metadata.source_sha256, metadata.recipe):
        raise WrongKindError(
            f"{record_file} is of an engine of another model or recipe than {source}",
            "name the engine that was built from this file with --engine, or build it again",
        )


def _check_times(bench: Bench, record: EngineRecord | None, source: Path) -> None:
    if record is None or all(row.engine_bytes != record.engine_bytes for row in bench.results):
        named = ", ".join(row.name for row in bench.results)
        raise WrongKindError(
            f"the times are of {named}, and not of the engine that was built from {source}",
            "name the engine with --engine, or time it: nvfp4-trt bench ENGINE -o bench.json",
        )


def _planned(
    source: Path,
    gpu: str | None,
    inputs: Mapping[str, Sequence[str]],
    record: EngineRecord | None,
    dims: Sequence[str],
) -> tuple[Plan | None, str]:
    """Return the plan, where there is to be one; or why there is none, where nobody asked for it by a GPU.

    Raises:
        WrongKindError: ranges are given beside an engine.
        Nvfp4Error: of `plan_of`, where somebody did.
    """
    if record is not None and dims:
        raise WrongKindError(
            f"--dim is given, and {record.engine} has a profile",
            "leave it out: the plan is of the engine's profile",
        )
    if record is not None and gpu is None:
        return None, ""
    with stage(f"planning {source}"):
        try:
            return planned.plan_of(source, gpu or planned.DEFAULT_GPU, inputs, record, dims), ""
        except Nvfp4Error as error:
            if gpu or dims:
                raise
            return None, error.message


def _missing(source: Path, has_engine: bool, told: Measured, unplanned: str) -> list[Missing]:
    file = shlex.quote(source.name)
    engine = shlex.quote(source.with_suffix(".engine").name)
    run = f"nvfp4-trt report {file} -o report.html --reference MODEL --inputs INPUTS"
    found = []
    if not has_engine:
        found.append(
            Missing(
                section="engine",
                what=f"No engine was given, and none could be planned: {unplanned}."
                if unplanned
                else "No engine was given: whether its GEMMs are FP4 is not known, and its figures are predicted.",
                how=f"nvfp4-trt build engine {file} -o {engine}",
            )
        )
    if not told.errors:
        found.append(
            Missing(
                section="errors", what="The float model and inputs were not given: no error is known.", how=run
            )
        )
    if not told.activations:
        what = "The float model and inputs were not given: nothing is known of what enters the layers."
        found.append(Missing(section="activations", what=what, how=run))
    return found
