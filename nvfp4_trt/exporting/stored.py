"""Weights that lie in files stay there until the ONNX file is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from nvfp4_trt.loading.stored import region_of

if TYPE_CHECKING:
    from nvfp4_trt.loading.stored import Region


def refer_to_files(model: ir.Model) -> None:
    """Replace each initializer that is mapped from a file by a reference to its bytes there, in place."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        raw = getattr(tensor, "raw", None)
        if tensor is None or not isinstance(raw, torch.Tensor):
            continue
        region = region_of(raw)
        if region is not None:
            value.const_value = _reference(tensor, region)


def _reference(tensor: ir.TensorProtocol, region: Region) -> ir.ExternalTensor:
    path = Path(region.path)
    return ir.ExternalTensor(
        path.name,
        region.offset,
        region.length,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        base_dir=path.parent,
    )
