"""Telling what a file is from its bytes and its zip directory, without unpickling any of it."""

from __future__ import annotations

import zipfile
from enum import Enum, auto
from typing import TYPE_CHECKING

from nvfp4_trt.errors import FileMissingError, FileTruncatedError, NotAModelError, WrongKindError
from nvfp4_trt.loading.safetensors_files import HEADER_LIMIT, read_header
from nvfp4_trt.portable import looks_like_onnx

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = 4096
_PICKLES = {bytes([0x80, protocol]) for protocol in range(2, 6)}  # the PROTO opcode and its argument
_KINDS = "a state dict (.pt), a .pt2 program, a pickled nn.Module, a .safetensors file or a Hugging Face folder"


class FileKind(Enum):
    """The kinds of file that are read further."""

    TORCH_ZIP = auto()
    TORCH_LEGACY = auto()
    PROGRAM = auto()
    PROGRAM_LEGACY = auto()
    SAFETENSORS = auto()


def sniff(path: Path) -> FileKind:
    """Return a file's kind.

    Raises:
        FileMissingError: there is no such file.
        FileTruncatedError: it is empty, or it ends before its directory or its tensors do.
        WrongKindError: it is a known kind that holds no PyTorch model (TorchScript, ONNX, NumPy, ...).
        NotAModelError: it is none of these.
    """
    if not path.exists():
        raise FileMissingError(f"{path} does not exist", "check the path")
    if not path.is_file():
        raise NotAModelError(f"{path} is not a regular file", f"give {_KINDS}")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise FileTruncatedError(f"{path} is empty (0 bytes)", "copy or download it again")
    if head[:2] == b"PK":
        return _sniff_zip(path)
    if _looks_like_safetensors(head, path):
        read_header(path)
        return FileKind.SAFETENSORS
    if head[:2] in _PICKLES:
        return FileKind.TORCH_LEGACY
    raise _not_for_us(path, head)


def _sniff_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if min((entry.header_offset for entry in archive.infolist()), default=0) != 0:
                # a .pt2 holds whole .pt files: cut short, its last directory is that of one of those
                raise zipfile.BadZipFile("the directory is not this file's own")  # noqa: TRY301
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileTruncatedError(
            f"{path} starts like a PyTorch file, but its zip directory is missing or damaged ({error})",
            "it was probably not copied or downloaded to its end: fetch it again",
        ) from error
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return FileKind.PROGRAM
    if "serialized_exported_program.json" in names:
        return FileKind.PROGRAM_LEGACY
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise WrongKindError(
            f"{path} is a TorchScript archive: its layers are frozen code, and none can be replaced",
            "export its nn.Module: `torch.export.save(torch.export.export(model, (x,)), 'model.pt2')`",
        )
    if "data.pkl" in inner:
        return FileKind.TORCH_ZIP
    if names and all(name.endswith(".npy") for name in names):
        raise WrongKindError(f"{path} is a NumPy archive: it holds inputs, not a model", _inputs_hint(path))
    raise NotAModelError(f"{path} is a zip file, but not one of PyTorch's", f"give {_KINDS}")


def _looks_like_safetensors(head: bytes, path: Path) -> bool:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= HEADER_LIMIT:
        return True
    return path.suffix == ".safetensors" and len(head) < 10  # cut within the length itself  # noqa: PLR2004


def _not_for_us(path: Path, head: bytes) -> WrongKindError | NotAModelError:
    if path.suffix == ".onnx" or looks_like_onnx(head):
        return WrongKindError(
            f"{path} is an ONNX file: quantizing starts from the PyTorch model",
            "export the original nn.Module as a .pt2 file, and give that",
        )
    if head.startswith(b"\x93NUMPY"):
        return WrongKindError(f"{path} is a NumPy array: it holds inputs, not a model", _inputs_hint(path))
    if head.startswith(b"GGUF"):
        return WrongKindError(
            f"{path} is a GGUF file: its weights are quantized already", "give the original safetensors"
        )
    if head.startswith(b"\x89HDF"):
        return WrongKindError(f"{path} is an HDF5 file: a Keras model, most likely", "give a PyTorch model")
    if path.suffix in {".engine", ".plan"}:
        return WrongKindError(
            f"{path} is a TensorRT engine: it cannot be quantized again", "give the PyTorch model"
        )
    if head.startswith(b"version https://git-lfs"):
        return NotAModelError(
            f"{path} is a Git LFS pointer, not the file that it points to",
            f"git lfs pull --include '{path.name}'",
        )
    if _is_text(head):
        return NotAModelError(f"{path} is a text file", f"give {_KINDS}")
    return NotAModelError(f"{path} is none of the kinds that can be read", f"give {_KINDS}")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character cut by the end of `head` is no evidence
            return False
        text = head[: error.start].decode("utf-8")
    return all(c.isprintable() or c in "\t\r\n\f" for c in text)


def _inputs_hint(path: Path) -> str:
    return f"give it as example inputs beside a model: `nvfp4-trt export MODEL --inputs {path}`"
