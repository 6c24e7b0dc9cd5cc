"""Files of packed weights: packing, converting, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.api.quantizing import weight_method
from nvfp4_trt.checkpoints import Converted, Format, Saved, convert_checkpoint, save_checkpoint
from nvfp4_trt.quantization.packed_files import PackedFile, pack_file
from nvfp4_trt.recipe import RuleName, refuse_transforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.quantization import QuantizedModel


def pack(
    source: str | Path,
    output: str | Path,
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    rule: str = "spec",
    method: str = "max",
) -> PackedFile:
    """Pack the weights of a safetensors file into NVFP4, and copy its other tensors.

    Args: and raises: see `nvfp4_trt.quantization.packed_files.pack_file`.
    """
    return pack_file(
        Path(source), Path(output), only=only, exclude=exclude, rule=RuleName(rule), method=weight_method(method)
    )


def convert(source: str | Path, output: str | Path, *, to: str) -> Converted:
    """Write an NVFP4 checkpoint in another format: `packed`, `torchao`, `compressed-tensors` or `modelopt`.

    Args: and raises: see `nvfp4_trt.checkpoints.convert_checkpoint`.
    """
    return convert_checkpoint(Path(source), Path(output), Format(to))


def save(model: QuantizedModel, output: str | Path) -> Saved:
    """Write a quantized model as a checkpoint: its codes and scales, static input scales among them.

    Args: and raises: see `nvfp4_trt.checkpoints.save_checkpoint`. Besides:

    Raises:
        RecipeInvalidError: the recipe has transforms.
    """
    refuse_transforms(model.recipe, "no checkpoint format holds what it adds to layers")
    return save_checkpoint(model, Path(output))
