"""An engine of the same model without quantizers, to be timed beside the FP4 one."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, NamedTuple

import onnx_ir as ir

from nvfp4_trt.auditing.record import parse_record
from nvfp4_trt.benching.floats import to_floats
from nvfp4_trt.building.backends import BackendName
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.records import read_record, record_beside, record_of, shapes_of
from nvfp4_trt.building.spec import BuildSpec
from nvfp4_trt.costing import cost_engine, find_gpu, shapes_at
from nvfp4_trt.errors import FileMissingError, InputsMismatchError, WrongKindError
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load, save
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.costing import GPU

Against = Literal["bf16", "fp16"]
_DTYPES = {"bf16": ir.DataType.BFLOAT16, "fp16": ir.DataType.FLOAT16}


class Candidate(NamedTuple):
    """An engine to time."""

    engine: Path
    precision: str = "nvfp4"
    modelled_ms: float | None = None
    """Of one run at the preferred shapes; None where it is not known."""


def build_baseline(
    model: Path, record: EngineRecord, against: str, folder: Path, *, gpu: GPU | None = None
) -> Candidate:
    """Build an engine of a portable model in 16 bits, for the shapes, targets and backend of its FP4 engine.

    Args:
        model: the portable file.
        record: of the FP4 engine that was built from it.
        against: `bf16` or `fp16`.
        folder: where the engine and its log go.
        gpu: that its time is modelled on; by default the one of the record.

    Raises:
        InputsMismatchError: the file's inputs are not those of the engine.
        Nvfp4Error: see `portable.load` and `building.process.run_build`.
    """
    graph_model, metadata = load(model)
    if metadata.source_sha256 != record.source_sha256:
        raise InputsMismatchError(
            f"{model} and {record.engine} were made from different models", "give the file that it was built from"
        )
    to_floats(graph_model, _DTYPES[against])
    lower(graph_model)
    shapes = shapes_at(graph_model, {name: each[1] for name, each in record.profile.items()})
    lowered = folder / f"{against}.onnx"
    save(graph_model, lowered)
    del graph_model
    spec = BuildSpec(
        backend=BackendName(record.backend),
        targets=record.targets,
        model=lowered,
        engine=folder / f"{against}.engine",
        record=folder / f"{against}.record",
        log=folder / f"{against}.log",
        profiles=(record.profile,) if record.profile else (),
    )
    run_build(spec, folder)
    rows = parse_record(spec.record.read_text(encoding="utf-8"))
    modelled = gpu or (find_gpu(str(record.cost["gpu"])) if record.cost else None)
    cost = None if modelled is None else cost_engine(rows, modelled, shapes)
    return Candidate(spec.engine, against, None if cost is None else cost.microseconds / 1e3)


def modelled_here(engine: Path, record: EngineRecord | None, model: Path | None, gpu: GPU | None) -> float | None:
    """Return an engine's modelled time on the GPU of this machine, milliseconds, at the preferred shapes.

    Args:
        engine: the file.
        record: beside it.
        model: the portable file that it was built from; by default the one beside it under its name.
        gpu: of this machine; None where it is not in the table: then the record's time is on the record's GPU.

    Returns:
        None where nothing is known: no record, or a record of another GPU's time and no portable file.
    """
    if record is None or not record.cost:
        return None
    if gpu is None or record.cost["gpu"] == gpu.name:
        return float(record.cost["microseconds_modelled"]) / 1e3
    source = model or engine.with_suffix(".onnx")
    if not source.is_file():
        return None
    graph_model, metadata = load(source)
    if metadata.source_sha256 != record.source_sha256:
        return None
    return cost_engine(record.rows, gpu, shapes_of(graph_model, record)).microseconds / 1e3


@contextmanager
def with_baseline(
    engine: Path, against: str | None, model: Path | None, *, gpu: GPU | None = None
) -> Iterator[list[Candidate]]:
    """Yield an engine, and a baseline behind it where one is asked for, which is gone afterwards. Needs no GPU.

    Args:
        engine: with its record beside it.
        against: `bf16`, `fp16` or None.
        model: the portable file; by default `model.onnx` beside `model.engine`.
        gpu: that times are modelled on; by default the one of the engine's record.

    Raises:
        FileMissingError: the engine's record or the portable file is not there.
        WrongKindError: another precision is asked for.
        Nvfp4Error: see `build_baseline`.
    """
    first = Candidate(engine, modelled_ms=modelled_here(engine, record_beside(engine), model, gpu))
    if against is None:
        yield [first]
        return
    if against not in _DTYPES:
        raise WrongKindError(f"no baseline is built in {against!r}", f"one of {', '.join(_DTYPES)}")
    record = read_record(record_of(engine), engine)
    source = model or engine.with_suffix(".onnx")
    if not source.is_file():
        raise FileMissingError(
            f"{source}, which a baseline is made from, does not exist",
            "--onnx FILE: the portable file that the engine was built from",
        )
    with TemporaryDirectory() as folder:
        with stage(f"building the {against} engine"):
            baseline = build_baseline(source, record, against, Path(folder), gpu=gpu)
        yield [first, baseline]
