"""Why a GEMM lost FP4 or FP8: what is known of TensorRT's conditions, matched to what was built instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.layers import MIN_K

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.auditing.record import Row
    from nvfp4_trt.layers import Layer


def known_reason(layer: Layer, rows: Sequence[Row], between: str | None, *, unproven: str = "") -> str:
    """Return the reason in words.

    Args:
        layer: the layer; `shape` is (N, K).
        rows: the rows that compute its GEMM nodes; may be empty.
        between: what stands between its dequantized operands and a MatMul, where something does.
        unproven: why the kernel pack does not vouch for a plugin's GEMM, where it does not.
    """
    n, k = layer.shape
    if between:
        return f"{between}; TensorRT dequantizes the weight to higher precision at every run"
    if layer.is_fp4 and k < MIN_K:
        return f"K = {k} < {MIN_K}: TensorRT builds such a GEMM in half precision"
    if layer.is_fp4 and n == 1:
        return "N = 1: TensorRT builds no GEMM for it"
    if not rows:
        return "no row of the layer record computes it"
    row = next((each for each in rows if each.is_plugin), rows[0])
    if row.is_plugin:
        return f"plugin layer {row.name!r}: {unproven or 'no kernel pack vouches for its kernels'}"
    operands = ", ".join(sorted({o.dtype for o in (*row.inputs, *row.constants)}))
    wanted = "FP8" if layer.is_fp8 else "FP4"
    if layer.weight_only:
        return f"row {row.name!r} reads no {wanted} weight (its operands: {operands})"
    return f"row {row.name!r} ({row.type}) has no {wanted} operands on both sides (it has: {operands})"
