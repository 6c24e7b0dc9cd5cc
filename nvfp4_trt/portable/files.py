"""Writing and reading ONNX files: whole or not at all, with external data where protobuf needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from nvfp4_trt.atomic import output_folder
from nvfp4_trt.errors import FileMissingError, FileTruncatedError, NotAModelError, NotOurOnnxError
from nvfp4_trt.portable.functions import DOMAIN
from nvfp4_trt.portable.held import check_held
from nvfp4_trt.portable.metadata import read_metadata
from nvfp4_trt.portable.writing import write_beside, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.errors import Nvfp4Error
    from nvfp4_trt.portable.metadata import Metadata

LIMIT = 2**31 - 2**26
"""Above this many bytes of weights a file keeps them beside it: protobuf ends at 2 GiB."""
_MIN_EXTERNAL = 1024
_HEAD = 16


def save(model: ir.Model, path: Path, *, limit: int = LIMIT) -> None:
    """Write a model and check it, with `path.data` beside it where it holds more than `limit` bytes.

    Weights are written one by one: those that lie in a file (`ExternalTensor`) are copied from there, and of all
    others one is looked at at a time. The model stays as it was.

    Raises:
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
        FileTruncatedError: a file that holds a tensor has become shorter.
    """
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    with output_folder(path) as scratch:
        made = scratch / path.name
        if size > limit:
            write_beside(model, made, scratch / f"{path.name}.data", at_least=_MIN_EXTERNAL)
            onnx.checker.check_model(str(made), full_check=True)
        else:
            # The checker would read all weights of one file, and looks at none of them.
            outline = scratch / f"{path.name}.outline"
            write_whole(model, made, outline, at_least=_MIN_EXTERNAL)
            onnx.checker.check_model(str(outline), full_check=True)
            outline.unlink()


def read_any(path: Path) -> ir.Model:
    """Read an ONNX file, ours or not.

    Raises:
        FileMissingError: there is no such file.
        FileTruncatedError: it is empty, or ends too early.
        NotAModelError: it cannot be read as ONNX, or is a folder.
        FileMissingError, FileTruncatedError, OnnxInvalidError: see `check_held`.
    """
    check_is_file(path, "give an .onnx file")
    try:
        model = ir.load(path)
    except DecodeError as error:
        raise undecodable(path) from error
    except Exception as error:
        raise NotAModelError(
            f"{path} is not an ONNX file: {error}".split("\n")[0], "give an .onnx file"
        ) from error
    check_held(model, path)
    return model


def check_is_file(path: Path, hint: str) -> None:
    """Refuse a path that holds nothing to read.

    Args:
        path: of what should be a file.
        hint: where there is none.

    Raises:
        FileMissingError: there is none.
        FileTruncatedError: it is empty.
        NotAModelError: it is a folder.
    """
    if path.is_dir():
        raise NotAModelError(f"{path} is a folder", "give an .onnx file")
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist", hint)
    if not path.stat().st_size:
        raise FileTruncatedError(f"{path} is empty (0 bytes)", "copy or download it again")


def undecodable(path: Path) -> Nvfp4Error:
    """Return the error for a file that protobuf cannot read: a damaged ONNX file, or another kind of file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if looks_like_onnx(head):
        return FileTruncatedError(
            f"{path} starts like an ONNX file, and is damaged or ends too early", "copy or download it again"
        )
    return NotAModelError(f"{path} is not an ONNX file", "give an .onnx file")


def load(path: Path) -> tuple[ir.Model, Metadata]:
    """Read a portable file.

    Raises:
        FileMissingError: there is no such file, or its external data is missing.
        FileTruncatedError: it is empty, or it or its external data ends too early.
        OnnxInvalidError: a tensor has not the bytes of its shape, or lies outside of the file's folder.
        NotAModelError: the file is not ONNX.
        NotOurOnnxError: it is, and carries no `nvfp4` nodes or metadata.
    """
    check_is_file(path, "make it with `nvfp4-trt export`")
    model = read_any(path)
    if not model.graph.inputs and not len(model.graph):
        raise NotAModelError(f"{path} is not an ONNX file", "give an .onnx file")
    ours = any(node.domain == DOMAIN for node in model.graph)
    if ours and not model.metadata_props:
        raise NotOurOnnxError(
            f"{path} has nvfp4 operators, and lacks its metadata, which some tools drop (GraphSurgeon does)",
            "copy `metadata_props` back from the file that was exported; see docs/polygraphy.md",
        )
    metadata = read_metadata(model.metadata_props, file=str(path))
    if not ours:
        raise NotOurOnnxError(
            f"{path} holds no nodes of the domain {DOMAIN!r}; it has been lowered already",
            "give the file that `nvfp4-trt export` wrote",
        )
    return model, metadata


def looks_like_onnx(head: bytes) -> bool:
    """Return whether a file that starts with these bytes is probably an ONNX file.

    ModelProto starts with field 1 (ir_version, a small varint) followed by field 2 (producer_name), 7 (graph) or 8
    (opset_import): https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    """
    return head[:1] == b"\x08" and head[1:2] < b"\x40" and head[2:3] in {b"\x12", b"\x3a", b"\x42"}
