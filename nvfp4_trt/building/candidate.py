"""One variant of a model on its way to an engine: lowered before the build, audited and costed after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel

from nvfp4_trt.auditing import Audit, Row, audit_engine, parse_record
from nvfp4_trt.building.aot_nodes import use_aot_nodes
from nvfp4_trt.building.followed import lowering_of
from nvfp4_trt.building.outcomes import outcome_key
from nvfp4_trt.building.plugins import plugin_gemms
from nvfp4_trt.building.profiles import make_profile
from nvfp4_trt.building.spec import BuildSpec
from nvfp4_trt.building.variants import Variant
from nvfp4_trt.costing import cost_engine, shapes_at
from nvfp4_trt.errors import BuildFailedError
from nvfp4_trt.passes import (
    KEPT_BLOCKS,
    Blocks,
    Form,
    Lowering,
    fix_dims,
    keep_first_blocks,
    lower,
    missing_rows,
    quantized_rows,
    strip_plugin_functions,
)
from nvfp4_trt.patterns import matching
from nvfp4_trt.portable import load, save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir

    from nvfp4_trt.building.backends import Backend
    from nvfp4_trt.building.profiles import InputProfile, Range
    from nvfp4_trt.building.spec import BuildResult, PluginSpec
    from nvfp4_trt.costing import GPU, EngineCost, TensorShapes
    from nvfp4_trt.portable import Metadata

LOG = "tensorrt.log"


class Candidate(BaseModel):
    """One variant that was tried, as its layer record tells of it."""

    form: Form
    loosened: str = ""
    """A dimension of one extent whose size was left open in the graph."""
    padded: bool = False
    """Whether its number of rows became a multiple of 128."""
    blocks: int = 0
    """How many of the model's repeated blocks were built; 0 for the whole model."""
    kernels: int = 0
    """Kernel launches; 0 where it failed."""
    bytes: int = 0
    """That a run moves, see `nvfp4_trt.costing`."""
    microseconds: float = 0.0
    """Modelled time of a run."""
    predicted: float = 0.0
    """Of the whole model, where blocks of it were built: each one left out takes what the middle one does."""
    seconds: float = 0.0
    """Wall time of the build; of an earlier one where the outcome was known."""
    error: str = ""
    """Why there is no engine; empty where there is one."""

    @property
    def variant(self) -> Variant:
        """What was tried."""
        return Variant(self.form, self.loosened, self.padded)

    @property
    def name(self) -> str:
        """What it is called in tables."""
        name = self.variant.name
        return f"{name}, {self.blocks} blocks" if self.blocks else name


@dataclass(frozen=True)
class Plan:
    """What all variants of a build have in common."""

    source: Path
    metadata: Metadata
    """Of the source."""
    between: Mapping[str, str]
    """Layer → what stands between its dequantized weight and a MatMul."""
    backend: Backend
    targets: tuple[str, ...]
    ranges: Mapping[str, Range]
    """Of every dynamic dimension."""
    plugin: PluginSpec | None
    allow: tuple[str, ...]
    """Patterns of layers that may be built in higher precision."""
    gpu: GPU
    """That times are modelled on."""


@dataclass(frozen=True)
class Prepared:
    """A lowered variant, ready to be built."""

    variant: Variant
    blocks: Blocks | None
    """Where only the first ones of them were kept."""
    spec: BuildSpec
    profile: Mapping[str, InputProfile]
    lowering: Lowering
    shapes: TensorShapes = field(repr=False)
    """At the profile's optimum."""

    @property
    def folder(self) -> Path:
        """Where all of its files are."""
        return self.spec.model.parent

    @cached_property
    def key(self) -> str:
        """What its outcome is known by, see `outcome_key`: it reads the whole file, once."""
        return outcome_key(self.spec)


@dataclass(frozen=True)
class Built:
    """A variant's engine, audited and costed."""

    prepared: Prepared
    result: BuildResult
    rows: list[Row]
    audit: Audit
    cost: EngineCost

    @property
    def predicted(self) -> float:
        """Modelled microseconds of the whole model; with all of it built, those that `cost` has."""
        blocks = self.prepared.blocks
        if blocks is None:
            return self.cost.microseconds
        rows = zip(self.rows, self.cost.rows, strict=True)
        middle = sum(cost.microseconds for row, cost in rows if blocks.is_middle(row.onnx))
        return self.cost.microseconds + (blocks.number - KEPT_BLOCKS) * middle


def has_odd_rows(plan: Plan) -> bool:
    """Tell whether the plain variant quantizes a known number of rows that is no multiple of 128.

    The largest number counts: a pooler's few rows are no reason.
    """
    extents = Variant().extents(plan.ranges)
    if plan.plugin is not None or len(extents) < len(plan.ranges):
        return False
    model, _ = load(plan.source)
    fix_dims(model, extents)
    return missing_rows(max(quantized_rows(model.graph), default=0)) > 0


def prepare(plan: Plan, variant: Variant, lowered: Path) -> Prepared:
    """Lower one variant of the whole model.

    Args:
        plan: what to build.
        variant: of it.
        lowered: where the lowered file goes; its folder, which is made, holds all else.
    """
    model, _ = load(plan.source)  # each variant anew: lowering changes the graph in place
    return _lowered(plan, variant, lowered, model, None)


def prepare_trial(plan: Plan, variant: Variant, lowered: Path, blocks: Blocks) -> Prepared | None:
    """Lower one variant of the first blocks.

    Args:
        plan: what to build.
        variant: of it.
        lowered: see `prepare`.
        blocks: of which only the first ones are kept.

    Returns:
        None where the graph cannot be cut behind these blocks.
    """
    model, _ = load(plan.source)
    return _lowered(plan, variant, lowered, model, blocks) if keep_first_blocks(model, blocks) else None


def _lowered(plan: Plan, variant: Variant, lowered: Path, model: ir.Model, blocks: Blocks | None) -> Prepared:
    lowered.parent.mkdir(parents=True)
    profile = make_profile(model.graph.inputs, variant.ranges(plan.ranges), plan.metadata.example_shapes)
    extents = variant.extents(plan.ranges)
    plugin = plan.plugin is not None
    with lowering_of(plan.source):
        lowering = lower(model, plugin=plugin, form=variant.form, extents=extents, pad_rows=variant.padded)
        shapes = shapes_at(model, {name: each.opt for name, each in profile.items()})
        if plan.plugin is not None:
            strip_plugin_functions(model)
            if plan.plugin.form == "aot":
                use_aot_nodes(model)
        save(model, lowered)
    spec = BuildSpec(
        backend=plan.backend.name,
        targets=plan.targets,
        model=lowered,
        engine=lowered.parent / "engine",
        record=lowered.parent / "record.txt",
        log=lowered.parent / LOG,
        profiles=({name: tuple(shapes) for name, shapes in profile.items()},) if profile else (),
        plugin=plan.plugin,
    )
    return Prepared(variant, blocks, spec, profile, lowering, shapes)


def finish(plan: Plan, prepared: Prepared, result: BuildResult) -> Built:
    """Audit and cost what was built.

    Raises:
        BuildFailedError: there is no layer record to go by.
        Fp4LostError: a requested GEMM is not FP4.
    """
    rows = _rows(prepared.spec)
    lowering = prepared.lowering
    by_plugin = plugin_gemms(plan.plugin, lowering.plugin_gemms)
    layers, allow = plan.metadata.layers, plan.allow
    if prepared.blocks is not None:
        inside = set[str]().union(*lowering.gemms.values(), *lowering.plugin_gemms.values())
        layers = tuple(layer for layer in layers if layer.name in inside)
        every = [layer.name for layer in plan.metadata.layers]
        allow = tuple(inside & matching(every, allow, option="--allow-higher-precision"))
    audit = audit_engine(
        rows, layers, lowering.gemms, lowering.scales, plan.between, allow=allow, plugin=by_plugin
    )
    audit.check()
    return Built(prepared, result, rows, audit, cost_engine(rows, plan.gpu, prepared.shapes))


def _rows(spec: BuildSpec) -> list[Row]:
    try:
        return parse_record(spec.record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BuildFailedError(
            f"{spec.backend} gave no layer record, so nothing proves that the engine's GEMMs are FP4",
            "report the backend's version; --log FILE keeps its log",
        ) from error
