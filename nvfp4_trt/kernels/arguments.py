"""The parameters of the kernels, as bytes: the one struct of the quantizing kernels, and the GEMM's list."""

from __future__ import annotations

import ctypes

NORMS = {"layer_norm": 0, "rms_norm": 1}
"""`Args.function` of `norm_quantize`."""
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "silu": 2, "silu_mul": 3, "relu": 4}
"""`Args.function` of `activation_quantize`; `silu_mul` is silu(x) · other."""
ROW_MAJOR, TILED = 0, 1
"""`Args.layout`: block scales `[M, K/16]`, or tiles of 128 rows by 4 block scales, padded with zeros."""


class Args(ctypes.Structure):
    """`nvfp4::Args` of `plugins/kernels/arguments.cuh`, field by field; pointers are addresses, 0 for none."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "other", "weight", "bias", "scale_in", "values", "sum")),
        *((name, ctypes.c_void_p) for name in ("codes", "scales", "scale_out", "fake", "state")),
        *((name, ctypes.c_int32) for name in ("m", "k", "x_stride", "other_stride")),
        *((name, ctypes.c_float) for name in ("epsilon", "floor")),
        *((name, ctypes.c_int32) for name in ("layout", "function", "group", "stash")),
    )


def scale_bytes(rows: int, k: int, layout: int = TILED) -> int:
    """Return how many bytes the block scales of a matrix `[rows, k]` take."""
    blocks = -(-k // 16)
    return rows * blocks if layout == ROW_MAJOR else -(-rows // 128) * -(-blocks // 4) * 512
