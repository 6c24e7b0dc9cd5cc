"""A quantized module → a portable ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.exporting.dynamic import dynamic_axes, traceable
from nvfp4_trt.exporting.finish import finish
from nvfp4_trt.exporting.scopes import first_names
from nvfp4_trt.exporting.stored import refer_to_files
from nvfp4_trt.exporting.trace import trace
from nvfp4_trt.portable import Metadata, package_versions, save

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.layers import Layer
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization import QuantizedModel


@dataclass(frozen=True)
class OnnxArtifact:
    """A portable ONNX file on disk."""

    path: Path
    metadata: Metadata

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers' table."""
        return self.metadata.layers


def export_module(
    quantized: QuantizedModel,
    batch: Batch,
    path: Path,
    *,
    dynamic: Sequence[str] = (),
    source_sha256: str | Callable[[], str],
    fixed: Mapping[str, str] | None = None,
    looked_at: Mapping[str, str] | None = None,
) -> OnnxArtifact:
    """Export a quantized module.

    Args:
        quantized: what `quantization.quantize_module` returned.
        batch: example inputs by the forward's parameter names.
        path: the file to write; it appears whole or not at all.
        dynamic: dynamic dimensions, see `dynamic_axes`.
        source_sha256: hash of what the model was loaded from, or what waits for it.
        fixed: layers that were rewritten before, see `Metadata`.
        looked_at: what scales or codes were found on, see `Metadata`.

    Raises:
        InputSpecError, InputsMismatchError: a dynamic dimension or the batch does not fit the model.
        ExportFailedError: torch's exporter refused the model.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
        FileTruncatedError: a file with weights became shorter meanwhile.
    """
    axes = dynamic_axes(dynamic, batch)
    traced_with = traceable(batch, axes)
    quantized.module.eval()
    traced = trace(quantized.module, traced_with, axes)
    metadata = Metadata(
        recipe=quantized.recipe.model_dump(mode="json"),
        layers=quantized.layers,
        scale_rule=str(quantized.recipe.weights.rule),
        source_sha256=source_sha256 if isinstance(source_sha256, str) else source_sha256(),
        example_shapes={name: list(tensor.shape) for name, tensor in batch.items()},
        versions=package_versions(),
        fixed=dict(fixed or {}),
        looked_at=dict(looked_at or {}),
    )
    finish(traced.model, metadata, traced.output_names, first_names(quantized.module))
    refer_to_files(traced.model)
    save(traced.model, path)
    return OnnxArtifact(path, metadata)
