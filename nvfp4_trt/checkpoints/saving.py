"""From a quantized module to a checkpoint: `load_checkpoint` undoes it, every code and scale as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nvfp4_trt.atomic import check_writable, output_file
from nvfp4_trt.checkpoints.formats import write_checkpoint
from nvfp4_trt.checkpoints.source import Source
from nvfp4_trt.checkpoints.weights import Activation, Checkpoint, Format, Scale, StoredWeight
from nvfp4_trt.errors import FormatCannotHoldError
from nvfp4_trt.loading.safetensors_files import DTYPES
from nvfp4_trt.loading.safetensors_writing import write_tensors
from nvfp4_trt.quantization import QuantEmbedding, QuantLinear
from nvfp4_trt.quantization.packed_files import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.quantization import QuantizedModel

_KNOWN = set(DTYPES.values())


@dataclass(frozen=True)
class Saved:
    """A quantized model that was written to a file."""

    path: Path
    weights: tuple[str, ...]
    """The names of the packed weights."""
    others: int
    """How many tensors are not quantized."""
    bytes: int


def save_checkpoint(model: QuantizedModel, output: Path) -> Saved:
    """Write a quantized model as a file of the format `packed`, which holds all that a quantized layer does.

    Weights keep the names that they have in the float model (those of an opened attention are `q_proj.weight` and
    so on). An embedding that is tied with a packed weight is left out, as is usual in safetensors files.

    Args:
        model: as from `quantize_module`; on any device.
        output: a safetensors file; it appears whole or not at all.

    Raises:
        FormatCannotHoldError: a layer is FP8; or the model's state holds something that is no tensor, or is of a
            dtype that safetensors files have not.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    check_writable(output)
    fp8 = next((layer.name for layer in model.layers if layer.is_fp8), None)
    if fp8 is not None:
        raise FormatCannotHoldError(
            f"the layer {fp8} is FP8, which the format {Format.PACKED} does not have",
            "export the model itself, or leave such layers as they are with `exclude` instead of `fp8`",
        )
    conv1d = {layer.name for layer in model.layers if layer.kind == "Conv1D"}
    modules = dict(model.module.named_modules(remove_duplicate=False))
    weights = {
        stored.name: stored
        for name, module in modules.items()
        if isinstance(module, QuantLinear)
        for stored in [_stored(name, module, transposed=name in conv1d)]
    }
    others = _others(model.module, modules)
    written = write_checkpoint(
        Checkpoint(Source(output, {}, {}, {}), Format.PACKED, weights, others), Format.PACKED
    )
    metadata = {"format": "pt", f"{PREFIX}scale_rule": str(model.recipe.weights.rule), **written.metadata}
    with output_file(output) as made:
        size = write_tensors(made, written.tensors, metadata)
    return Saved(output, tuple(weights), len(others), size)


def _stored(layer: str, module: QuantLinear, *, transposed: bool) -> StoredWeight:
    quantizer = module.input_quantizer
    scale = None if quantizer.scale is None else Scale(float(quantizer.scale))
    return StoredWeight(
        f"{layer}.weight" if layer else "weight",
        module.dtype,
        module.weight_packed.cpu(),
        module.weight_block_scale.cpu(),
        Scale(float(module.weight_per_tensor_scale)),
        Activation(quantizer.scaling, scale),
        transposed=transposed,
    )


def _others(root: nn.Module, modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Return the tensors of the state dict that no packed weight's layer holds for it."""
    quantized = {name for name, module in modules.items() if isinstance(module, (QuantLinear, QuantEmbedding))}
    inside = {
        f"{name}.{own}" if name else own
        for name in quantized
        for own in modules[name].state_dict()
        if own != "bias"
    }
    found = {name: value for name, value in root.state_dict().items() if name not in inside}
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.dtype not in _KNOWN:
            what = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
            raise FormatCannotHoldError(
                f"{name} in the model's state dict is {what}: a safetensors file cannot hold it",
                "keep it out of the state dict (`persistent=False`), or export the model itself",
            )
    return {name: value.detach().cpu() for name, value in found.items()}
