"""What a portable file says of each quantized layer: its scales and its bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from nvfp4_trt.portable.sites import find_sites, is_ours, layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

    from nvfp4_trt.portable.sites import Site

_RUN_TIME = {
    "PerTokenScale": "run-time, per token",
    "PerTensorScale": "run-time, per tensor",
    "Fp8TokenScale": "run-time, per token",
    "Fp8TensorScale": "run-time, per tensor",
}


class LayerScales(BaseModel):
    """Scales and bytes of one layer."""

    weight_scale: float
    """Per-tensor scale of the weight; of an FP8 weight, the largest of its channels'."""
    activation_scale: str
    """A number, `run-time, per token`, `run-time, per tensor`, `single level`, or `none`."""
    bytes: int
    """Codes and scales of the weight, as in the file."""

    @property
    def problem(self) -> str:
        """What is wrong with the scale of the weight, which JSON has no number for; empty where nothing is."""
        return "" if math.isfinite(self.weight_scale) else f"its per-tensor scale is {self.weight_scale}"


class StoredWeight(NamedTuple):
    """A quantized weight as it lies in the file."""

    layer: str
    operator: str
    """That dequantizes it: `Dequantize`, `DequantizeSingleLevel` or `Fp8Dequantize`."""
    tensors: tuple[ir.TensorProtocol, ...]
    """Codes and scales, as the operator reads them: packed codes uint8 `[N, K/2]`, block scales e4m3 `[N, K/16]`,
    per-tensor scale fp32 `[]`; of FP8 codes e4m3 `[N, K]`, scale fp32 `[N, 1]`."""


def layer_scales(model: ir.Model) -> dict[str, LayerScales]:
    """Return the scales of every layer with an NVFP4 or FP8 weight, by layer name."""
    sites = {site.layer: site for site in find_sites(model.graph)}
    found = {}
    for held in stored_weights(model):
        single = held.operator == "DequantizeSingleLevel"
        found[held.layer] = LayerScales(
            weight_scale=1.0 if single else float(held.tensors[-1].numpy().max(initial=-math.inf)),
            activation_scale=_activation_scale(sites.get(held.layer)),
            bytes=sum(tensor.nbytes for tensor in held.tensors),
        )
    return found


def stored_weights(model: ir.Model) -> Iterator[StoredWeight]:
    """Yield every NVFP4 or FP8 weight of a portable file, in graph order; no data is read."""
    for node in model.graph:
        if not is_ours(node, {"Dequantize", "DequantizeSingleLevel", "Fp8Dequantize"}):
            continue
        held = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
        if len(held) == len(node.inputs):  # else an activation's
            yield StoredWeight(layer_name(node), node.op_type, tuple(held))


def _activation_scale(site: Site | None) -> str:
    if site is None or site.quantize is None:
        return "none"
    if site.scale is not None:
        return _RUN_TIME.get(site.scale.op_type, f"run-time, by {site.scale.op_type}")
    if site.quantize.op_type == "QuantizeSingleLevel":
        return "single level"
    value = site.quantize.inputs[1]
    return "none" if value is None or value.const_value is None else f"{float(value.const_value.numpy()):.4g}"
