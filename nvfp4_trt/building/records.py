"""An engine's record, read back from beside it, and the shapes that its costs are told at."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import ValidationError

from nvfp4_trt.building.build import RECORD_SUFFIX, EngineRecord
from nvfp4_trt.building.profiles import Range
from nvfp4_trt.building.variants import Variant
from nvfp4_trt.costing import shapes_at
from nvfp4_trt.errors import FileMissingError, NotAModelError
from nvfp4_trt.passes import lower

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from nvfp4_trt.costing import TensorShapes


def record_of(engine: Path) -> Path:
    """Return where the record of an engine is."""
    return engine.with_name(f"{engine.name}{RECORD_SUFFIX}")


def read_record(record_file: Path, engine: Path | None = None) -> EngineRecord:
    """Read a record, and hold it against its engine where that is given.

    Raises:
        FileMissingError: there is no such record.
        NotAModelError: it is no record, or belongs to another engine.
    """
    if not record_file.is_file():
        beside = f"the record beside {engine.name}" if engine is not None else "an engine's record"
        raise FileMissingError(
            f"{record_file.name}, {beside}, is missing",
            "keep the two together: an engine alone can be read only on the GPU that it was built for",
        )
    try:
        record = EngineRecord.model_validate_json(record_file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise NotAModelError(f"{record_file} is not an engine's record", "build the engine again") from error
    if engine is not None:
        with engine.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != record.engine_sha256:
            raise NotAModelError(
                f"{record_file} belongs to another engine than {engine}", "build the engine again"
            )
    return record


def record_beside(engine: Path) -> EngineRecord | None:
    """Return the record beside an engine; None where there is none, as of an engine that something else built.

    Raises:
        FileMissingError: there is no such engine.
        NotAModelError: what is there is no record, or belongs to another engine; or the engine is a folder.
    """
    if engine.is_dir():
        raise NotAModelError(f"{engine} is a folder", "give an engine, as `nvfp4-trt build engine` writes it")
    if not engine.is_file():
        raise FileMissingError(f"{engine} does not exist", "check the path")
    record = record_of(engine)
    return read_record(record, engine) if record.is_file() else None


def shapes_of(model: ir.Model, record: EngineRecord) -> TensorShapes:
    """Lower a portable model as its engine's record says, and return its shapes at the profile's optimum.

    Args:
        model: what the engine was built from; changed in place.
        record: of the engine.

    Raises:
        ValueError: the model's inputs are not those of the record's profile.
    """
    variant = Variant(record.form, record.loosened, record.padded)
    extents = variant.extents(_ranges(model, record))
    lower(model, plugin=bool(record.plugin), form=record.form, extents=extents, pad_rows=record.padded)
    return shapes_at(model, {name: shapes[1] for name, shapes in record.profile.items()})


def _ranges(model: ir.Model, record: EngineRecord) -> dict[str, Range]:
    """Return the range of every dynamic dimension, by the shapes of the inputs that have it."""
    found = {}
    for value in model.graph.inputs:
        shapes = record.profile.get(value.name or "")
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, int):
                continue
            if shapes is None or any(len(shape) <= axis for shape in shapes):
                raise ValueError(f"the record's profile does not have the input {value.name}")
            found[str(dim.value)] = Range(*(shape[axis] for shape in shapes))
    return found
