"""What `inspect` shows of a portable file, of an engine or of a serving set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from nvfp4_trt.building import read_record, record_of
from nvfp4_trt.errors import FileMissingError, NotAModelError
from nvfp4_trt.portable import layer_scales, load
from nvfp4_trt.printing.objects import engine_object, layer_object, scaled
from nvfp4_trt.printing.serving import serving_object, serving_summary
from nvfp4_trt.printing.tables import engine_layers, engine_summary, layers_table
from nvfp4_trt.serving import is_serving_set, read_manifest
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir
    from rich.console import RenderableType

    from nvfp4_trt.portable import Metadata


@dataclass(frozen=True)
class Inspection:
    """One file's contents, for a program and for people."""

    as_object: dict[str, Any]
    parts: list[RenderableType]


def inspect_file(path: Path) -> Inspection:
    """Read a portable ONNX file, an engine through the record beside it, or a serving set through its manifest.

    Raises:
        FileMissingError: there is no such file, or an engine's record is missing, or a file of a serving set.
        NotAModelError: it is none of these, or the record belongs to another engine.
        NotOurOnnxError: an ONNX file of another making.
    """
    if path.is_dir() and is_serving_set(path):
        manifest = read_manifest(path)
        return Inspection(serving_object(manifest, path), serving_summary(manifest, path))
    if path.is_dir():
        raise NotAModelError(
            f"{path} is a folder", "give an .onnx file, an engine with its record, or a folder of `--buckets`"
        )
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist", "check the path")
    record = record_of(path)
    if record.is_file() or path.suffix in {".engine", ".plan"}:
        return _inspect_engine(path, record)
    model, metadata = load(path)
    return _inspect_onnx(path, model, metadata)


def _inspect_engine(path: Path, record_file: Path) -> Inspection:
    record = read_record(record_file, path)
    return Inspection(
        {"kind": "engine", **engine_object(record, str(path))},
        [engine_layers(record), "", *engine_summary(record, str(path))],
    )


def _inspect_onnx(path: Path, model: ir.Model, metadata: Metadata) -> Inspection:
    scales = layer_scales(model)
    rows = [scaled(layer_object(layer), scales.get(layer.name)) for layer in metadata.layers]
    size = path.stat().st_size
    told = {
        "kind": "onnx",
        "onnx": str(path),
        "onnx_bytes": size,
        "recipe": metadata.recipe,
        "scale_rule": metadata.scale_rule,
        "source_sha256": metadata.source_sha256,
        "versions": metadata.versions,
        "inputs": [_io(value) for value in model.graph.inputs],
        "outputs": [_io(value) for value in model.graph.outputs],
        "layers": rows,
    }
    parts: list[RenderableType] = [
        layers_table(metadata.layers, scales),
        "",
        *(f"input {_io_line(value)}" for value in model.graph.inputs),
        *(f"output {_io_line(value)}" for value in model.graph.outputs),
        f"recipe {metadata.recipe['name']}, scale rule {metadata.scale_rule}, {readable_size(size)}",
    ]
    return Inspection(told, parts)


def _io_line(value: ir.Value) -> str:
    told = _io(value)
    return escape(f"{told['name']}: {told['dtype'].lower()} [{', '.join(map(str, told['shape']))}]")


def _io(value: ir.Value) -> dict[str, Any]:
    dims = [] if value.shape is None else [d if isinstance(d, int) else str(d.value) for d in value.shape]
    return {"name": value.name, "dtype": str(value.dtype), "shape": dims}
