"""A portable ONNX file → an audited engine."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nvfp4_trt.atomic import check_writable, output_file, output_folder
from nvfp4_trt.auditing import Audit, Row  # noqa: TC001 (pydantic needs them at run time)
from nvfp4_trt.building.backends import Backend, choose_backend
from nvfp4_trt.building.candidate import LOG, Candidate, Plan
from nvfp4_trt.building.followed import lowering_of
from nvfp4_trt.building.plugins import LIBRARY, choose_plugin
from nvfp4_trt.building.profiles import complete_ranges, parse_ranges
from nvfp4_trt.building.search import search
from nvfp4_trt.building.trtexec import trtexec_line
from nvfp4_trt.building.variants import BUDGETS, Optimize, Variant
from nvfp4_trt.costing import BuilderMemory, builder_memory, gpu_for
from nvfp4_trt.errors import InputSpecError
from nvfp4_trt.passes import PLAIN, Form, Lowering, lower, strip_plugin_functions
from nvfp4_trt.portable import LayerScales, interruptions, layer_scales, load, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvfp4_trt.building.profiles import InputProfile
    from nvfp4_trt.building.search import Found
    from nvfp4_trt.building.spec import PluginForm, PluginSpec

RECORD_SUFFIX = ".json"


class EngineRecord(BaseModel):
    """What `model.engine.json` holds."""

    engine: str
    """File name of the engine."""
    engine_sha256: str
    engine_bytes: int
    backend: str
    version: str
    targets: tuple[str, ...]
    profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    seconds: float
    trtexec: str
    """A line that builds the same engine from the lowered file; empty where only Python can build it."""
    recipe: dict[str, Any]
    source_sha256: str
    passes: dict[str, int]
    """Lowering pass → how many places it changed."""
    form: Form = PLAIN
    """Form of the lowered graph."""
    loosened: str = ""
    """A dimension of one extent whose profile has another beside it, see `building.variants`."""
    padded: bool = False
    """Whether the number of rows became a multiple of 128."""
    optimize: Optimize = "off"
    """How much was tried."""
    candidates: tuple[Candidate, ...] = ()
    """Every variant that was tried, in the order of the trials: first blocks, then whole models."""
    over: bool = False
    """Whether the search's time was over before everything was tried."""
    cost: dict[str, Any] = {}
    """What a run costs at the profile's optimum, its time modelled; see `nvfp4_trt.costing.EngineCost.brief`."""
    memory: BuilderMemory | None = None
    """Device memory, as the builder states it; None where it does not."""
    plugin: str = ""
    """The kernel pack whose kernels the plugin layers run; empty where the engine has none."""
    audit: Audit
    scales: dict[str, LayerScales]
    """Layer → its scales and the bytes of its weight."""
    rows: tuple[Row, ...]
    """The whole layer record."""


@dataclass(frozen=True)
class EngineArtifact:
    """An engine on disk, with its record beside it."""

    path: Path
    record: EngineRecord

    @property
    def audit(self) -> Audit:
        """The audit's outcome."""
        return self.record.audit


def lower_file(source: Path, output: Path, *, plugin: bool = False, bodies: bool = False) -> Lowering:
    """Lower a portable file and write TensorRT's form of it.

    Args:
        source: a file that `nvfp4-trt export` wrote.
        output: the file to write.
        plugin: lower to plugin nodes, for full TensorRT.
        bodies: with `plugin`, keep the plugin nodes' bodies in standard operators, and leave other layers as they
            are, so that ONNX Runtime runs the file. TensorRT's parser would take the bodies, not the plugins.

    Raises:
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load`.
        OnnxInvalidError: its graph contradicts itself.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    check_writable(output)
    model, _ = load(source)
    with lowering_of(source):
        lowering = lower(model, plugin=plugin, portable_rest=bodies)
        if plugin and not bodies:
            strip_plugin_functions(model)
        save(model, output)
    return lowering


def build_engine(
    source: Path,
    output: Path,
    *,
    backend: str | None = None,
    targets: Sequence[str] = (),
    dims: Sequence[str] = (),
    allow: Sequence[str] = (),
    plugin: bool | Path = False,
    plugin_library: Path | None = None,
    plugin_form: PluginForm = "jit",
    lowered: Path | None = None,
    log: Path | None = None,
    optimize: Optimize = "fast",
    gpu: str | None = None,
    budget: float | None = None,
    cache: bool = True,
) -> EngineArtifact:
    """Lower, build and audit; of several ways to lower, keep the one whose engine takes the least modelled time.

    Args:
        source: a file that `nvfp4-trt export` wrote.
        output: the engine; its record appears as `output.json`. Neither appears where the audit fails.
        backend: `tensorrt` or `tensorrt_rtx`; by default full TensorRT where it is installed.
        targets: GPU architectures, `sm_120` and the like; by default sm_120 where the backend cross-compiles,
            else the GPU of this machine.
        dims: ranges of dynamic dimensions, `NAME=MIN:OPT:MAX`.
        allow: patterns of layers that may be built in higher precision.
        plugin: lower to plugin nodes instead of the rewrite (full TensorRT only); a folder is the kernel pack to
            use, by default one in the user's cache that is made at first use.
        plugin_library: the C++ plugin, instead of the Python one; implies `plugin`.
        plugin_form: of the Python plugin: `jit` (the engine needs Python), or `aot` (the engine has the kernels).
        lowered: where to keep the lowered ONNX file, if anywhere.
        log: where to keep TensorRT's log, if anywhere; also kept where the build fails.
        optimize: what is tried beside the plain lowering: nothing (`off`), the variants that win somewhere
            (`fast`), or all (`full`).
        gpu: the GPU that times are modelled on, see `costing.find_gpu`; by default one of the first target.
        budget: seconds that the search may take beside the plain build; by default 60 (`fast`) or 600 (`full`).
        cache: use outcomes of earlier builds, and keep those of this one, in the user's cache.

    Raises:
        BackendMissingError, FeatureUnsupportedError, TargetUnsupportedError, PluginsUnsupportedError: the backend
            cannot do it.
        PackInvalidError, KernelMissingError, WrongKindError: the kernel pack or the plugin's library do not fit.
        ParseFailedError, BuildFailedError, BuildCrashedError: TensorRT failed.
        Fp4LostError: a requested GEMM is not FP4.
        ProfileError, InputSpecError: a range does not fit, or the budget is negative.
        UnknownGpuError: no figures are known for the GPU.
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load`.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    for path in (output, lowered, log):
        if path is not None:
            check_writable(path)
    chosen = choose_backend(backend)
    goals = chosen.goals(targets)
    modelled = gpu_for(goals, gpu)
    if budget is not None and not budget >= 0:
        raise InputSpecError(f"--budget {budget:g} is no number of seconds", "give 0 or more")
    with_plugin = choose_plugin(chosen, goals, plugin, plugin_library, plugin_form)
    ranges = parse_ranges(dims)
    model, metadata = load(source)
    ranges = complete_ranges(model.graph.inputs, ranges, metadata.example_shapes)
    attention = any(node.op_type == "Attention" for node in model.graph)
    scales = layer_scales(model)
    between = interruptions(model, metadata.layers)
    del model
    kept = lowered or output.with_suffix(".trt.onnx")
    plan = Plan(
        source=source,
        metadata=metadata,
        between=between,
        backend=chosen,
        targets=goals,
        ranges=ranges,
        plugin=with_plugin,
        allow=tuple(allow),
        gpu=modelled,
    )
    limit = BUDGETS[optimize] if budget is None else budget
    with output_folder(output) as scratch:
        work = scratch / ".work"
        work.mkdir()
        variant = Variant()
        try:
            found = search(plan, optimize, work, kept.name, budget=limit, cached=cache)
            variant = found.built.prepared.variant
        finally:
            _keep(work / variant.name, kept.name, lowered, log)
        written = scratch / output.name
        prepared = found.built.prepared
        prepared.spec.engine.rename(written)
        profile = dict(prepared.profile)
        equivalent = _trtexec(chosen, goals, kept, output, profile, with_plugin, attention=attention)
        record = _record(plan, found, optimize, written, scales, equivalent)
        shutil.rmtree(work)
        (scratch / f"{output.name}{RECORD_SUFFIX}").write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return EngineArtifact(output, record)


def _record(
    plan: Plan, found: Found, optimize: Optimize, engine: Path, scales: dict[str, LayerScales], trtexec: str
) -> EngineRecord:
    built, prepared = found.built, found.built.prepared
    return EngineRecord(
        engine=engine.name,
        engine_sha256=_sha256(engine),
        engine_bytes=engine.stat().st_size,
        backend=str(plan.backend.name),
        version=built.result.version,
        targets=plan.targets,
        profile={name: tuple(shapes) for name, shapes in prepared.profile.items()},
        seconds=round(built.result.seconds, 3),
        trtexec=trtexec,
        recipe=plan.metadata.recipe,
        source_sha256=plan.metadata.source_sha256,
        passes=prepared.lowering.changes,
        form=prepared.variant.form,
        loosened=prepared.variant.loosened,
        padded=prepared.variant.padded,
        optimize=optimize,
        candidates=found.candidates,
        over=found.over,
        cost=built.cost.brief(),
        memory=_memory(prepared.spec.log),
        plugin="" if plan.plugin is None else str(plan.plugin.pack),
        audit=built.audit,
        scales=scales,
        rows=tuple(built.rows),
    )


def _memory(log: Path) -> BuilderMemory | None:
    try:
        return builder_memory(log.read_text(encoding="utf-8", errors="replace"))
    except ValueError:
        return None


def _trtexec(
    backend: Backend,
    targets: tuple[str, ...],
    model: Path,
    engine: Path,
    profile: dict[str, InputProfile],
    plugin: PluginSpec | None,
    *,
    attention: bool,
) -> str:
    """Return the vendor's command line; empty for ahead-of-time plugins, since its tool runs no Python."""
    if plugin is not None and plugin.form == "aot":
        return ""
    library = "" if plugin is None else str(plugin.library or LIBRARY)
    return trtexec_line(backend.name, targets, model, engine, profile, attention=attention, plugin=library)


def _keep(folder: Path, name: str, lowered: Path | None, log: Path | None) -> None:
    """Copy what a form's folder holds to where the user asked for it, as far as the build came."""
    if lowered is not None and (folder / name).is_file():
        with output_folder(lowered) as scratch:
            for part in (name, f"{name}.data"):
                if (folder / part).is_file():
                    shutil.copyfile(folder / part, scratch / part)
    if log is not None and (folder / LOG).is_file():
        with output_file(log) as place:
            shutil.copyfile(folder / LOG, place)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
