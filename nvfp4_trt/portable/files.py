"""Writing and reading ONNX files: whole or not at all, with external data where protobuf needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from nvfp4_trt.atomic import output_folder
from nvfp4_trt.errors import FileMissingError, NotAModelError, NotOurOnnxError
from nvfp4_trt.portable.functions import DOMAIN
from nvfp4_trt.portable.metadata import read_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.portable.metadata import Metadata

LIMIT = 2**31 - 2**26
"""Above this many bytes of weights a file keeps them beside it: protobuf ends at 2 GiB."""
_MIN_EXTERNAL = 1024


def save(model: ir.Model, path: Path, *, limit: int = LIMIT) -> None:
    """Check a model and write it, with `path.data` beside it where it holds more than `limit` bytes.

    Raises:
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = f"{path.name}.data" if size > limit else None
    with output_folder(path) as scratch:
        made = scratch / path.name
        ir.save(model, made, external_data=external, size_threshold_bytes=_MIN_EXTERNAL)
        onnx.checker.check_model(str(made), full_check=True)


def load(path: Path) -> tuple[ir.Model, Metadata]:
    """Read a portable file.

    Raises:
        FileMissingError: there is no such file, or its external data is missing.
        NotAModelError: the file is not ONNX.
        NotOurOnnxError: it is, and carries no `nvfp4` nodes or metadata.
    """
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist", "make it with `nvfp4-trt export`")
    try:
        model = ir.load(path)
    except Exception as error:
        raise NotAModelError(
            f"{path} is not an ONNX file: {error}".split("\n")[0], "give an .onnx file"
        ) from error
    if not model.graph.inputs and not len(model.graph):
        raise NotAModelError(f"{path} is not an ONNX file", "give an .onnx file")
    metadata = read_metadata(model.metadata_props, file=str(path))
    if not any(node.domain == DOMAIN for node in model.graph):
        raise NotOurOnnxError(
            f"{path} holds no nodes of the domain {DOMAIN!r}; it has been lowered already",
            "give the file that `nvfp4-trt export` wrote",
        )
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and not (path.parent / tensor.location).is_file():
            raise FileMissingError(f"{path} keeps its weights in {tensor.location}, which is missing", "copy both")
    return model, metadata
