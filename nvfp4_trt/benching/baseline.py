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
from nvfp4_trt.building.records import read_record, record_of
from nvfp4_trt.building.spec import BuildSpec
from nvfp4_trt.costing import cost_engine, find_gpu, shapes_at
from nvfp4_trt.errors import FileMissingError, InputsMismatchError, WrongKindError
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load, save
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvfp4_trt.building import EngineRecord

Against = Literal["bf16", "fp16"]
_DTYPES = {"bf16": ir.DataType.BFLOAT16, "fp16": ir.DataType.FLOAT16}


class Candidate(NamedTuple):
    """An engine to time."""

    engine: Path
    precision: str = "nvfp4"
    modelled_ms: float | None = None
    """Of one run at the preferred shapes; by default what the record beside the engine says."""


def build_baseline(model: Path, record: EngineRecord, against: str, folder: Path) -> Candidate:
    """Build an engine of a portable model in 16 bits, for the shapes, targets and backend of its FP4 engine.

    Args:
        model: the portable file.
        record: of the FP4 engine that was built from it.
        against: `bf16` or `fp16`.
        folder: where the engine and its log go.

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
    cost = cost_engine(rows, find_gpu(str(record.cost["gpu"])), shapes) if record.cost else None
    return Candidate(spec.engine, against, None if cost is None else cost.microseconds / 1e3)


@contextmanager
def with_baseline(engine: Path, against: str | None, model: Path | None) -> Iterator[list[Candidate]]:
    """Yield an engine, and a baseline behind it where one is asked for, which is gone afterwards. Needs no GPU.

    Args:
        engine: with its record beside it.
        against: `bf16`, `fp16` or None.
        model: the portable file; by default `model.onnx` beside `model.engine`.

    Raises:
        FileMissingError: the engine's record or the portable file is not there.
        WrongKindError: another precision is asked for.
        Nvfp4Error: see `build_baseline`.
    """
    if against is None:
        yield [Candidate(engine)]
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
            baseline = build_baseline(source, record, against, Path(folder))
        yield [Candidate(engine), baseline]
