"""A checkpoint as it lies on the disk: its tensors with the files they are in, and its configuration."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from nvfp4_trt.errors import CheckpointConfigError, DependencyMissingError, NotAModelError, WrongKindError
from nvfp4_trt.loading.checkpoints import unwrap_checkpoint
from nvfp4_trt.loading.folders import read_config, weight_files
from nvfp4_trt.loading.pickles import read_pickle
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

    A `torch.save`d state dict with torchao's tensors is read as a whole.

    Raises:
        FileMissingError, FileTruncatedError, NotAModelError, WrongKindError: see `sniff`, `weight_files` and
            `map_tensors`.
        CheckpointConfigError: `hf_quant_config.json` is no JSON object.
    """
    if not path.is_dir():
        kind = sniff(path)
        if kind in {FileKind.TORCH_ZIP, FileKind.TORCH_LEGACY}:
            return _flattened(path, kind)
        if kind is not FileKind.SAFETENSORS:
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


def _flattened(path: Path, kind: FileKind) -> Source:
    """Read a `torch.save`d state dict with torchao's tensors, as torchao itself flattens it.

    Raises:
        DependencyMissingError: torchao is not installed.
        UntrustedCodeError, NotAModelError: see `read_pickle` and `unwrap_checkpoint`.
    """
    if importlib.util.find_spec("torchao") is None:
        raise DependencyMissingError(f"{path} is a state dict: reading it needs torchao", "pip install torchao")
    import torchao.prototype.mx_formats.inference_workflow  # noqa: F401 (registers its tensors with torch's unpickler)
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    weights, _ = unwrap_checkpoint(read_pickle(path, kind, trust=False), str(path))
    plain = {name: t.data if type(t) is nn.Parameter else t for name, t in weights.items()}
    tensors, metadata = flatten_tensor_state_dict(plain)
    return Source(path, tensors, dict.fromkeys(tensors, path), metadata)


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
