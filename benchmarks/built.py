"""Engines to compare: ours with or without the search, and others' ONNX files through the same builder.

Every engine is built for sm_120 in a process of its own; none is run.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

import nvfp4_trt
from nvfp4_trt.auditing import parse_record
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.spec import BuildSpec
from nvfp4_trt.costing import EngineCost, builder_memory, cost_engine, find_gpu, shapes_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models import Sample

    from nvfp4_trt.auditing import Row
    from nvfp4_trt.building.build import Optimize

BACKEND, TARGET = "tensorrt_rtx", "sm_120"
GPU = "rtx5090"
DTYPE = torch.float16
BATCHES, SEQUENCES = (1, 8, 32), (1, 128, 512)
DIMS = {"batch": BATCHES, "sequence": SEQUENCES}
"""Smallest, preferred and largest extent of a dynamic dimension."""

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class Built:
    """One engine."""

    rows: tuple[Row, ...]
    """Its layer record."""
    cost: EngineCost
    """At the profile's optimum."""
    activation_bytes: int
    """As the builder's log states it, at the profile's maximum."""
    weight_bytes: int
    """Likewise."""
    seconds: float
    """Wall time of lowering, building and auditing, or for another's file of building alone."""
    engine_bytes: int
    fp4_gemms: int

    @property
    def figures(self) -> dict[str, int | float]:
        """What the tables show."""
        return {
            "kernels": self.cost.kernels,
            "waits": self.cost.waits,
            "bytes": self.cost.bytes,
            "unresolved": self.cost.unresolved,
            "activation_bytes": self.activation_bytes,
            "seconds": round(self.seconds, 2),
            "engine_bytes": self.engine_bytes,
            "fp4_gemms": self.fp4_gemms,
        }


def build_onnx(model: Path, folder: Path, ranges: Mapping[str, Sequence[int]] | None = None) -> Built:
    """Build an ONNX file as it is.

    Args:
        model: the file.
        folder: an empty or new folder for what the build leaves.
        ranges: dimension name → smallest, preferred and largest extent, for inputs with such dimensions.

    Raises:
        Nvfp4Error: see `run_build`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loaded = ir.load(model)
    profile = _profile(loaded, ranges or {})
    spec = BuildSpec(
        backend=BACKEND,
        targets=(TARGET,),
        model=model,
        engine=folder / "built.engine",
        record=folder / "record.txt",
        log=folder / "tensorrt.log",
        profiles=(profile,) if profile else (),
    )
    result = run_build(spec, folder)
    rows = parse_record(spec.record.read_text(encoding="utf-8"))
    log = spec.log.read_text(encoding="utf-8", errors="replace")
    return built_of(rows, loaded, profile, log, result.seconds, spec.engine)


def ours(portable: Path, folder: Path, dims: Sequence[str] = (), optimize: Optimize = "fast") -> Built:
    """Lower and build a portable file.

    Args:
        portable: what `nvfp4_trt.export` wrote.
        folder: an empty or new folder for what the build leaves.
        dims: ranges, as `nvfp4_trt.build` takes them.
        optimize: `off` or `fast`.

    Raises:
        Nvfp4Error: see `nvfp4_trt.build`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, lowered = folder / "tensorrt.log", folder / "lowered.onnx"
    began = time.perf_counter()
    engine = nvfp4_trt.build(
        portable,
        folder / "built.engine",
        backend=BACKEND,
        targets=(TARGET,),
        dims=dims,
        lowered=lowered,
        log=log,
        optimize=optimize,
        gpu=GPU,
        cache=False,
    )
    seconds = time.perf_counter() - began
    said = log.read_text(encoding="utf-8", errors="replace")
    return built_of(engine.record.rows, ir.load(lowered), engine.record.profile, said, seconds, engine.path)


def built_of(
    rows: Sequence[Row], model: ir.Model, profile: Profile, log: str, seconds: float, engine: Path
) -> Built:
    """Return what an engine is, from its record, the lowered model, its profile and its log."""
    shapes = shapes_at(model, {name: best for name, (_, best, _) in profile.items()})
    memory = builder_memory(log)
    return Built(
        rows=tuple(rows),
        cost=cost_engine(rows, find_gpu(GPU), shapes),
        activation_bytes=memory.activation_bytes,
        weight_bytes=memory.weight_bytes,
        seconds=seconds,
        engine_bytes=engine.stat().st_size,
        fp4_gemms=sum(row.is_fp4_gemm for row in rows),
    )


def _profile(model: ir.Model, ranges: Mapping[str, Sequence[int]]) -> Profile:
    """Return the profile of the inputs that have dynamic dimensions."""
    profile: Profile = {}
    for value in model.graph.inputs:
        if value.name is None or value.name in model.graph.initializers or value.shape is None:
            continue
        columns = [(d, d, d) if isinstance(d, int) else tuple(ranges[str(d.value)]) for d in value.shape]
        if any(not isinstance(d, int) for d in value.shape):
            least, best, most = zip(*columns, strict=True)
            profile[value.name] = (least, best, most)
    return profile


def export_ours(sample: Sample, recipe: str, path: Path) -> Path:
    """Export a model through this project, with dynamic dimensions."""
    nvfp4_trt.export(sample.module, path, recipe=recipe, inputs=[sample.inputs], dynamic=sample.dynamic)
    return path


def export_plain(sample: Sample, path: Path) -> Path:
    """Export a model as it is, unquantized, at its inputs' shape, by torch's exporter and nothing else."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            sample.module, (), path, kwargs=dict(sample.inputs), dynamo=True, external_data=True, verbose=False
        )
    return path


def dim_options(sample: Sample, extents: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Return `dims` for `nvfp4_trt.build`: these extents, or the ranges of the benchmarks."""
    names = sample.dynamic[0].split(",")
    given = {name: str(extents[name]) if extents else ":".join(map(str, DIMS[name])) for name in names}
    return tuple(f"{name}={told}" for name, told in given.items())
