"""Whether a file's tensors are where it says, and as long: looked at when it is read, without their data."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.errors import FileMissingError, FileTruncatedError, OnnxInvalidError

if TYPE_CHECKING:
    from pathlib import Path


def check_held(model: ir.Model, path: Path) -> None:
    """Refuse a model whose initializers cannot be read, or lie outside of its folder.

    Args:
        model: as it was read.
        path: from here.

    Raises:
        FileMissingError: a file with weights is not there.
        FileTruncatedError: it ends within a tensor.
        OnnxInvalidError: it is in another folder, which an ONNX file may not name
            (https://github.com/onnx/onnx/blob/main/docs/ExternalData.md), or a tensor has not its shape's bytes.
    """
    sizes: dict[str, int] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            _check_external(tensor, name, path, sizes)
        elif isinstance(tensor, ir.TensorProtoTensor) and tensor.raw.HasField("raw_data"):
            held = len(tensor.raw.raw_data)
            if held != tensor.nbytes:
                raise OnnxInvalidError(
                    f"{path}: the tensor {name!r} has {held} bytes, and its shape takes {tensor.nbytes}",
                    "copy it again, or export it again",
                )


def _check_external(tensor: ir.ExternalTensor, name: str, path: Path, sizes: dict[str, int]) -> None:
    location = os.fspath(tensor.location)
    inside = PurePath(os.path.normpath(location))
    if inside.is_absolute() or inside.parts[:1] == ("..",):
        raise OnnxInvalidError(
            f"{path}: the tensor {name!r} is said to lie in {location}, outside of the file's folder",
            "whoever made this file wants another one read: do not use it",
        )
    file = path.parent / location
    if location not in sizes:
        if not file.is_file():
            raise FileMissingError(f"{path} keeps its weights in {location}, which is missing", "copy both")
        sizes[location] = file.stat().st_size
    end = (tensor.offset or 0) + tensor.nbytes
    if end > sizes[location]:
        raise FileTruncatedError(
            f"{file} ends within the tensor {name}: it holds {sizes[location]} bytes of {end}",
            "it was cut short, or is still being written: fetch it again",
        )
