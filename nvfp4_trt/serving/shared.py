"""One engine with a profile for each bucket: the weights once, kernels for each shape."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from nvfp4_trt.atomic import output_folder
from nvfp4_trt.auditing import Audit, Row, audit_engine
from nvfp4_trt.building import EngineRecord, choose_backend
from nvfp4_trt.building.build import RECORD_SUFFIX
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.profiles import InputProfile, Range, make_profile
from nvfp4_trt.building.spec import BuildSpec
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import interruptions, layer_scales, load, save
from nvfp4_trt.serving.manifest import sha256
from nvfp4_trt.serving.parts import Made, profiles_of
from nvfp4_trt.serving.profile_rows import audit_of_all, hull, rows_by_profile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx_ir as ir

    from nvfp4_trt.serving.costs import Costs
    from nvfp4_trt.serving.request import Request


def build_shared(
    request: Request,
    output: Path,
    *,
    costs: Costs,
    log: Path,
    backend: str | None = None,
    targets: Sequence[str] = (),
    allow: Sequence[str] = (),
) -> Made:
    """Build one engine whose optimization profiles are the buckets, in their order, and then the dynamic shapes.

    The model is lowered once, for dynamic shapes. TensorRT compiles each profile by itself: one whose smallest and
    largest shapes agree gets the kernels of a fixed shape.

    Args:
        request: the model and its shapes.
        output: the engine; its record appears as `output.json`. Neither appears where an audit fails.
        costs: of the model.
        log: where TensorRT's log goes.
        backend: see `build_engine`.
        targets: see `build_engine`.
        allow: see `build_engine`.

    Raises:
        Fp4LostError: a requested GEMM is not FP4 in one of the profiles.
        BuildFailedError: TensorRT failed, or its record does not tell the profiles apart.
        Nvfp4Error: any other that `build_engine` raises.
    """
    chosen = choose_backend(backend)
    goals = chosen.goals(targets)
    model, metadata = load(request.source)
    profiles = _profiles(request, model.graph.inputs)
    between, scales = interruptions(model, metadata.layers), layer_scales(model)
    lowering = lower(model)

    def audited(rows: list[Row]) -> Audit:
        audit = audit_engine(rows, metadata.layers, lowering.gemms, lowering.scales, between, allow=allow)
        audit.check()
        return audit

    with output_folder(output) as scratch:
        work = scratch / ".work"
        work.mkdir()
        spec = BuildSpec(
            backend=chosen.name,
            targets=goals,
            model=work / "model.onnx",
            engine=scratch / output.name,
            record=work / "record.txt",
            log=log,
            profiles=tuple({name: tuple(shapes) for name, shapes in each.items()} for each in profiles),
        )
        save(model, spec.model)
        del model
        result = run_build(spec, work)
        rows = rows_by_profile(spec.record.read_text(encoding="utf-8"), len(profiles))
        record = EngineRecord(
            engine=output.name,
            engine_sha256=sha256(spec.engine),
            engine_bytes=spec.engine.stat().st_size,
            backend=str(chosen.name),
            version=result.version,
            targets=goals,
            profile=hull(profiles),
            seconds=round(result.seconds, 3),
            trtexec="",  # a line has one profile
            recipe=metadata.recipe,
            source_sha256=metadata.source_sha256,
            passes=lowering.changes,
            audit=audit_of_all([audited(each) for each in rows]),
            scales=scales,
            rows=tuple(row for each in rows for row in each),
        )
        shutil.rmtree(work)
        written = scratch / f"{output.name}{RECORD_SUFFIX}"
        written.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    extents = [bucket.as_dict() for bucket in request.buckets] + ([request.preferred] if request.ranges else [])
    return Made(output, record, profiles_of(rows, extents, costs, log))


def _profiles(request: Request, inputs: Sequence[ir.Value]) -> tuple[dict[str, InputProfile], ...]:
    spans = [
        {name: Range(extent, extent, extent) for name, extent in bucket.extents} for bucket in request.buckets
    ]
    if request.ranges:
        spans.append(request.ranges)
    return tuple(make_profile(inputs, each, request.metadata.example_shapes) for each in spans)
