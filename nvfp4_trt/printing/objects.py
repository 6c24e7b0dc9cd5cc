"""The `--json` objects: stable keys, plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4, WEIGHT_ONLY

if TYPE_CHECKING:
    from nvfp4_trt.auditing import LayerAudit
    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.layers import Layer
    from nvfp4_trt.portable import LayerScales


def layer_object(layer: Layer) -> dict[str, Any]:
    """Return one row of `layers`."""
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "precision": layer.precision,
        "reason": layer.reason,
    }


def scaled(row: dict[str, Any], scales: LayerScales | None) -> dict[str, Any]:
    """Return a row of a layer with its scales; one that is no finite number is null, and the reason says which."""
    if scales is None:
        return row
    if not scales.problem:
        return row | scales.model_dump()
    return row | scales.model_dump() | {"weight_scale": None, "reason": scales.problem}


def export_object(artifact: OnnxArtifact, *, random_inputs: bool) -> dict[str, Any]:
    """Return what `export --json` prints."""
    return {
        "onnx": str(artifact.path),
        "recipe": artifact.metadata.recipe["name"],
        "layers": [layer_object(layer) for layer in artifact.layers],
        "random_inputs": random_inputs,
        "onnx_bytes": artifact.path.stat().st_size,
        "source_sha256": artifact.metadata.source_sha256,
    }


_COUNTED = {"fp4": NVFP4, "fp4_weights": WEIGHT_ONLY, "fp8": FP8, "fp8_weights": FP8_WEIGHT_ONLY}


def _counts(record: EngineRecord, precision: str) -> dict[str, int]:
    requested, realized = record.audit.counts(precision)
    return {"requested": requested, "realized": realized}


def engine_object(record: EngineRecord, path: str) -> dict[str, Any]:
    """Return what `build engine --json` prints."""
    return {
        "engine": path,
        "record": f"{path}.json",
        "backend": record.backend,
        "version": record.version,
        "targets": list(record.targets),
        **{key: _counts(record, precision) for key, precision in _COUNTED.items()},
        "kernels": record.audit.kernels,
        "engine_bytes": record.engine_bytes,
        "weight_bytes": record.audit.weight_bytes,
        "floor_bytes": record.audit.floor_bytes,
        "seconds": record.seconds,
        "passes": record.passes,
        "form": record.form,
        "loosened": record.loosened,
        "padded": record.padded,
        "optimize": record.optimize,
        "candidates": [candidate.model_dump() for candidate in record.candidates],
        "over": record.over,
        "cost": record.cost,
        "memory": None if record.memory is None else record.memory.model_dump(),
        "trtexec": record.trtexec,
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in record.profile.items()},
        "layers": [_engine_layer(record, layer) for layer in record.audit.layers],
    }


def _engine_layer(record: EngineRecord, layer: LayerAudit) -> dict[str, Any]:
    return scaled(layer.model_dump(), record.scales.get(layer.name))
