"""What is printed of a serving set: a row for each bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from nvfp4_trt.printing.tables import table
from nvfp4_trt.recipe import ActivationScaling
from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from nvfp4_trt.serving import Manifest
    from nvfp4_trt.serving.manifest import EngineEntry, Tensor


def serving_object(manifest: Manifest, path: Path) -> dict[str, Any]:
    """Return the JSON object of a serving set: its manifest, and the size of all its engines."""
    return {
        "kind": "serving-set",
        "folder": str(path),
        "engines_bytes": _engines_bytes(manifest),
        **manifest.model_dump(mode="json"),
    }


def serving_summary(manifest: Manifest, path: Path) -> list[RenderableType]:
    """Return the table for people, what inputs are padded with, and what padding changes."""
    rows = [(each.name, *_cells(each)) for each in manifest.buckets]
    if manifest.dynamic is not None:
        spans = "x".join(f"{low}..{most}" for low, _, most in manifest.dynamic.ranges.values())
        rows.append((spans, *_cells(manifest.dynamic)))
    columns = (
        "x".join(manifest.dims),
        "engine",
        "#profile",
        "#kernels",
        "#bytes moved",
        "#us modelled",
        "#engine bytes",
        "#activation bytes",
    )
    parts: list[RenderableType] = [table("Buckets", columns, rows), ""]
    parts += [escape(f"input {_padding(tensor, manifest.batch)}") for tensor in manifest.inputs]
    if manifest.unmasked:
        dims = ", ".join(manifest.unmasked)
        parts.append(
            escape(f"no input is a mask over {dims}: where a layer mixes positions, results depend on the padding")
        )
    if manifest.model.activation_scaling == ActivationScaling.DYNAMIC and set(manifest.dims) - {manifest.batch}:
        parts.append("run-time scales over whole tensors see the padding: results differ from unpadded ones")
    size = readable_size(_engines_bytes(manifest))
    held = "one engine, the weights once" if manifest.shared_weights else f"{len(_files(manifest))} engines"
    builder = f"{manifest.backend} {manifest.version}"
    parts.append(
        f"bytes moved are counted from the layer record; times are modelled on {manifest.gpu}, not measured"
    )
    parts.append(escape(f"{path}: {held}, {size}; built by {builder}, recipe {manifest.model.recipe}"))
    return parts


def _cells(entry: EngineEntry) -> tuple[str, ...]:
    memory = "-" if entry.activation_bytes is None else f"{entry.activation_bytes:,}"
    about = "~" if entry.unresolved else ""
    cost = (str(entry.kernels), f"{about}{entry.bytes_moved:,}", f"{about}{entry.microseconds_modelled:.0f}")
    return (entry.file, str(entry.profile), *cost, f"{entry.engine_bytes:,}", memory)


def _padding(tensor: Tensor, batch: str | None) -> str:
    told = f"{tensor.name}: {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"
    if batch in tensor.dims:
        told += f", its last row repeated along {batch}"
    if any(dim != batch for dim in tensor.dims):
        told += f", padded with {tensor.pad:g}"
    return told


def _files(manifest: Manifest) -> dict[str, int]:
    return {each.file: each.engine_bytes for each in manifest.engines}


def _engines_bytes(manifest: Manifest) -> int:
    return sum(_files(manifest).values())
