"""What a file stores of a layer, against what the torch module holds: byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nvfp4_trt.portable.sites import PACKED_SUFFIX

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray
    from torch import nn

    from nvfp4_trt.portable import Site

_FP4 = ("weight_packed", "weight_block_scale", "weight_per_tensor_scale")
_FP8 = ("weight_fp8", "weight_scale")


def differing(site: Site, module: nn.Module) -> tuple[str, ...]:
    """Return what differs between a file's layer and a module's, such as `weight_packed: 1 of 4096 bytes`.

    Args:
        site: the layer's GEMM in a portable graph.
        module: a `QuantLinear` or `Fp8Linear`.
    """
    names = _FP4 if hasattr(module, PACKED_SUFFIX[1:]) else _FP8
    pairs: list[tuple[str, ir.Value | None, torch.Tensor | None]] = [
        (name, value, getattr(module, name)) for name, value in zip(names, site.weight.inputs, strict=False)
    ]
    scale = getattr(module.input_quantizer, "scale", None)
    if scale is not None and site.quantize is not None:
        pairs.append(("input_quantizer.scale", site.quantize.inputs[1], scale))
    return tuple(filter(None, (_difference(*pair) for pair in pairs)))


def _difference(name: str, value: ir.Value | None, tensor: torch.Tensor | None) -> str:
    if value is None or value.const_value is None or tensor is None:
        return f"{name} is in one of them only"
    ours = np.frombuffer(value.const_value.tobytes(), np.uint8)
    theirs = _bytes(tensor)
    if ours.size != theirs.size:
        return f"{name}: {ours.size} bytes in the file, {theirs.size} in the module"
    count = int((ours != theirs).sum())
    if not count:
        return ""
    if tensor.numel() == 1:
        stored, held = float(value.const_value.numpy().reshape(-1)[0]), float(tensor.reshape(-1)[0])
        return f"{name}: {stored:.6g} in the file, {held:.6g} in the module"
    return f"{name}: {count} of {ours.size} bytes"


def _bytes(tensor: torch.Tensor) -> NDArray[np.uint8]:
    flat: NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat
