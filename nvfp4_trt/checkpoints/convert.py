"""From one checkpoint format to another: the same codes and scales, copied from file to file."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvfp4_trt.atomic import output_file, output_tree
from nvfp4_trt.checkpoints.carrying import KEY
from nvfp4_trt.checkpoints.formats import read_checkpoint, write_checkpoint
from nvfp4_trt.checkpoints.packed import SAYS_VERSION, SAYS_WEIGHTS
from nvfp4_trt.checkpoints.source import CONFIG, WEIGHTS
from nvfp4_trt.checkpoints.torchao import SAYS_NAMES
from nvfp4_trt.errors import FormatCannotHoldError, OutputUnwritableError
from nvfp4_trt.loading.safetensors_writing import write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nvfp4_trt.checkpoints.source import Source
    from nvfp4_trt.checkpoints.weights import Format, Written


@dataclass(frozen=True)
class Converted:
    """A checkpoint that was written in another format."""

    path: Path
    source_format: Format
    format: Format
    weights: tuple[str, ...]
    """The names of the packed weights."""
    copied: int
    """How many tensors are not quantized."""
    bytes: int
    """Of the tensors' file."""


def convert_checkpoint(source: Path, output: Path, to: Format) -> Converted:
    """Write an NVFP4 checkpoint in another format, every code and scale as it was.

    Tensors are copied from file to file; memory holds a part of one, and the block scales of one weight.

    Args:
        source: see `read_checkpoint`.
        output: a folder, which must not exist or be empty; or a file ending in `.safetensors`, for a format that
            keeps its description in the header. It appears whole or not at all.
        to: the format to write.

    Raises:
        Nvfp4Error: those of `read_checkpoint` and `write_checkpoint`.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    single = output.suffix == ".safetensors"
    if not single and output.is_dir() and any(output.iterdir()):
        raise OutputUnwritableError(f"the folder {output} is not empty", "name a new one")
    checkpoint = read_checkpoint(source)
    written = write_checkpoint(checkpoint, to)
    metadata = {**_general(checkpoint.source, (*checkpoint.weights, *checkpoint.others)), **written.metadata}
    if single:
        if not written.alone:
            raise FormatCannotHoldError(
                f"{to} describes itself in config.json, and {output} would be a file alone", "name a folder"
            )
        with output_file(output) as made:
            size = write_tensors(made, written.tensors, metadata)
    else:
        with output_tree(output) as folder:
            size = write_tensors(folder / WEIGHTS, written.tensors, metadata)
            _write_beside(folder, checkpoint.source, written)
    return Converted(output, checkpoint.format, to, tuple(checkpoint.weights), len(checkpoint.others), size)


def _general(source: Source, names: Iterable[str]) -> dict[str, str]:
    """Return the metadata that says nothing of a format: what transformers wants to see, and the user's own."""
    own = {SAYS_VERSION, SAYS_WEIGHTS, KEY, SAYS_NAMES, *names}
    kept = {key: value for key, value in source.metadata.items() if key not in own}
    return {"format": "pt", **kept}


def _write_beside(folder: Path, source: Source, written: Written) -> None:
    for file in source.beside:
        shutil.copyfile(file, folder / file.name)
    config = {
        k: v for k, v in (source.config or {}).items() if k not in {"quantization_config", "compression_config"}
    }
    if written.quantization is not None:
        config["quantization_config"] = written.quantization
    if config:
        _write_json(folder / CONFIG, config)
    for name, content in written.files.items():
        _write_json(folder / name, content)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
