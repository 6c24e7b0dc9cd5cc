"""What a portable file says of each quantized layer: its scales and its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from nvfp4_trt.portable.sites import find_sites, is_ours, layer_name

if TYPE_CHECKING:
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


def layer_scales(model: ir.Model) -> dict[str, LayerScales]:
    """Return the scales of every layer with an NVFP4 or FP8 weight, by layer name."""
    sites = {site.layer: site for site in find_sites(model.graph)}
    found = {}
    for node in model.graph:
        if not is_ours(node, {"Dequantize", "DequantizeSingleLevel", "Fp8Dequantize"}):
            continue
        held = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
        if len(held) != len(node.inputs):
            continue  # an activation's
        name = layer_name(node)
        found[name] = LayerScales(
            weight_scale=1.0 if node.op_type == "DequantizeSingleLevel" else float(held[-1].numpy().max()),
            activation_scale=_activation_scale(sites.get(name)),
            bytes=sum(tensor.nbytes for tensor in held),
        )
    return found


def _activation_scale(site: Site | None) -> str:
    if site is None or site.quantize is None:
        return "none"
    if site.scale is not None:
        return _RUN_TIME.get(site.scale.op_type, f"run-time, by {site.scale.op_type}")
    if site.quantize.op_type == "QuantizeSingleLevel":
        return "single level"
    value = site.quantize.inputs[1]
    return "none" if value is None or value.const_value is None else f"{float(value.const_value.numpy()):.4g}"
