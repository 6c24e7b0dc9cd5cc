"""Forms of one model, each built and audited; the engine with the fewest kernel launches is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from nvfp4_trt.auditing import Audit, Row, audit_engine, parse_record
from nvfp4_trt.building.aot_nodes import use_aot_nodes
from nvfp4_trt.building.plugins import plugin_gemms
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.spec import BuildResult, BuildSpec
from nvfp4_trt.errors import BuildCrashedError, BuildFailedError, Fp4LostError, Nvfp4Error, ParseFailedError
from nvfp4_trt.passes import Form, Lowering, lower, strip_plugin_functions
from nvfp4_trt.portable import load, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.building.backends import Backend
    from nvfp4_trt.building.profiles import InputProfile
    from nvfp4_trt.building.spec import PluginSpec
    from nvfp4_trt.portable import Metadata

LOG = "tensorrt.log"

_OF_ONE_FORM = (BuildCrashedError, BuildFailedError, Fp4LostError, ParseFailedError)
"""What may befall one form and spare another."""


class Candidate(BaseModel):
    """One form that was built, as the engine's record tells of it."""

    form: Form
    kernels: int = 0
    """Kernel launches; 0 where it failed."""
    seconds: float = 0.0
    """Wall time of the build."""
    error: str = ""
    """Code and message of the error; empty where it went well."""


@dataclass(frozen=True)
class Plan:
    """What all forms of a build have in common."""

    source: Path
    metadata: Metadata
    """Of the source."""
    between: Mapping[str, str]
    """Layer → what stands between its dequantized weight and a MatMul."""
    backend: Backend
    targets: tuple[str, ...]
    profile: Mapping[str, InputProfile]
    extents: Mapping[str, int]
    """Dynamic dimensions that are given one extent."""
    plugin: PluginSpec | None
    allow: tuple[str, ...]
    """Patterns of layers that may be built in higher precision."""


@dataclass(frozen=True)
class Built:
    """One form's engine, audited."""

    form: Form
    spec: BuildSpec
    lowering: Lowering
    result: BuildResult
    rows: list[Row]
    audit: Audit


def search(plan: Plan, forms: Sequence[Form], work: Path, name: str) -> tuple[Built, tuple[Candidate, ...]]:
    """Build forms one after another and choose.

    Args:
        plan: what to build.
        forms: the plain one first: it is kept unless another has fewer launches.
        work: each form gets a folder here, named after it.
        name: of the lowered file in it.

    Raises:
        BuildCrashedError, BuildFailedError, Fp4LostError, ParseFailedError: every form failed; what the first met.
        Nvfp4Error: any other error ends the search.
    """
    built, told, failed = [], [], []
    for form in forms:
        folder = work / form
        folder.mkdir()
        try:
            made = build_form(plan, form, folder / name)
        except _OF_ONE_FORM as error:
            failed.append(error)
            told.append(Candidate(form=form, error=_in_short(error)))
            continue
        built.append(made)
        seconds = round(made.result.seconds, 3)
        told.append(Candidate(form=form, kernels=made.audit.kernels, seconds=seconds))
    if not built:
        raise failed[0]
    return min(built, key=lambda made: made.audit.kernels), tuple(told)


def build_form(plan: Plan, form: Form, lowered: Path) -> Built:
    """Lower to one form, build it in a child process, and audit the engine.

    Args:
        plan: what to build.
        form: of the graph.
        lowered: where the lowered file goes; its folder holds all else.

    Raises:
        BuildCrashedError, BuildFailedError, Fp4LostError, ParseFailedError: TensorRT failed, or lost FP4.
    """
    model, _ = load(plan.source)  # each form anew: lowering changes the graph in place
    lowering = lower(model, plugin=plan.plugin is not None, form=form, extents=plan.extents)
    if plan.plugin is not None:
        strip_plugin_functions(model)
        if plan.plugin.form == "aot":
            use_aot_nodes(model)
    save(model, lowered)
    del model  # the child needs the memory
    spec = BuildSpec(
        backend=plan.backend.name,
        targets=plan.targets,
        model=lowered,
        engine=lowered.parent / "engine",
        record=lowered.parent / "record.txt",
        log=lowered.parent / LOG,
        profiles=({name: tuple(shapes) for name, shapes in plan.profile.items()},) if plan.profile else (),
        plugin=plan.plugin,
    )
    result = run_build(spec, lowered.parent)
    rows = _rows(spec)
    by_plugin = plugin_gemms(plan.plugin, lowering.plugin_gemms)
    audit = audit_engine(
        rows,
        plan.metadata.layers,
        lowering.gemms,
        lowering.scales,
        plan.between,
        allow=plan.allow,
        plugin=by_plugin,
    )
    audit.check()
    return Built(form, spec, lowering, result, rows, audit)


def _in_short(error: Nvfp4Error) -> str:
    """Return code and message on one line."""
    return f"{error.code}: {error.message.splitlines()[0]}"


def _rows(spec: BuildSpec) -> list[Row]:
    try:
        return parse_record(spec.record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BuildFailedError(
            f"{spec.backend} gave no layer record, so nothing proves that the engine's GEMMs are FP4",
            "report the backend's version; --log FILE keeps its log",
        ) from error
