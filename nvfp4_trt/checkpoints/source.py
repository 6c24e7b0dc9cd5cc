"""A checkpoint as it lies on the disk: its tensors with the files they are in, and its configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import CheckpointConfigError, NotAModelError, WrongKindError
from nvfp4_trt.loading.folders import read_config, weight_files
from nvfp4_trt.loading.safetensors_files import map_tensors, read_header
from nvfp4_trt.loading.sniffing import FileKind, sniff

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CONFIG, HF_QUANT_CONFIG, WEIGHTS = "config.json", "hf_quant_config.json", "model.safetensors"
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".pt2", ".onnx"}


@dataclass(frozen=True)
class Source:
    """A file or folder of tensors."""

    path: Path
    tensors: dict[str, Tensor]
    """By name; large ones are mapped from their files."""
    homes: dict[str, Path]
    """The file that each tensor is in."""
    metadata: dict[str, str]
    """The entries of all headers."""
    config: dict[str, Any] | None = None
    """What `config.json` holds; None without one."""
    hf_quant_config: dict[str, Any] | None = None
    beside: tuple[Path, ...] = ()

    @property
    def quantization(self) -> dict[str, Any]:
        """`quantization_config` of `config.json`; empty without one."""
        found = (self.config or {}).get("quantization_config") or (self.config or {}).get("compression_config")
        return found if isinstance(found, dict) else {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files with tensors, and the configuration's."""
        named = [self.path / name for name in (CONFIG, HF_QUANT_CONFIG)] if self.path.is_dir() else []
        return (*sorted(set(self.homes.values())), *(file for file in named if file.is_file()))


def read_source(path: Path) -> Source:
    """Read the headers of a safetensors file, or of a Hugging Face folder's, and map the tensors.

    Raises:
        FileMissingError, FileTruncatedError, NotAModelError, WrongKindError: see `sniff`, `weight_files` and
            `map_tensors`.
        CheckpointConfigError: `hf_quant_config.json` is no JSON object.
    """
    if not path.is_dir():
        if sniff(path) is not FileKind.SAFETENSORS:
            raise WrongKindError(f"{path} is not a safetensors file", "give a checkpoint's folder, or its file")
        return _mapped(path, [path], None, None, ())
    files = weight_files(path)
    config = read_config(path) if (path / CONFIG).is_file() else None
    known = {CONFIG, HF_QUANT_CONFIG, f"{WEIGHTS}.index.json"}
    beside = tuple(
        file
        for file in sorted(path.iterdir())
        if file.is_file() and file.name not in known and file.suffix not in _WEIGHT_SUFFIXES
    )
    for file in files:
        if sniff(file) is not FileKind.SAFETENSORS:
            raise NotAModelError(f"{file} is not a safetensors file", "copy or download it again")
    return _mapped(path, files, config, _json(path / HF_QUANT_CONFIG), beside)


def _mapped(
    path: Path,
    files: list[Path],
    config: dict[str, Any] | None,
    hf_quant_config: dict[str, Any] | None,
    beside: tuple[Path, ...],
) -> Source:
    homes: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    for file in files:
        header = read_header(file)
        homes |= dict.fromkeys(header.tensors, file)
        metadata |= header.metadata
    return Source(path, map_tensors(files), homes, metadata, config, hf_quant_config, beside)


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointConfigError(f"{file} is not JSON: {error}", "copy or download it again") from error
    if not isinstance(found, dict):
        raise CheckpointConfigError(f"{file} holds no JSON object", "copy or download it again")
    return found
