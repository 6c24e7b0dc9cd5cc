"""NVFP4 tensors from torch: quantize, dequantize and multiply, on a CPU or with the CUDA kernels.

`backend` is `auto` (the CUDA kernels for tensors on a GPU that has them, else torch's own operators), `cuda` (the
kernels, or an error) or `torch`. Both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt import format as fmt
from nvfp4_trt.errors import FeatureUnsupportedError
from nvfp4_trt.quantization import cuda, ops
from nvfp4_trt.quantization.cuda_gemm import gemm as _fp4_gemm
from nvfp4_trt.quantization.fused_ops import activation_quantize, norm_quantize

if TYPE_CHECKING:
    from nvfp4_trt.kernels.launch import Scaling

__all__ = ["Backend", "Nvfp4Tensor", "activation_quantize", "dequantize", "gemm", "norm_quantize", "quantize"]

Backend = Literal["auto", "cuda", "torch"]

_FIRST_FP4 = 100  # the first architecture that multiplies FP4


class Nvfp4Tensor(NamedTuple):
    """A matrix, or a stack of them, in NVFP4."""

    packed: Tensor
    """e2m1 codes, uint8 `[..., K/2]`, low nibble first."""
    block_scale: Tensor
    """float8_e4m3fn: `[..., K/16]`, or one-dimensional in tiles of 128 rows by 4."""
    scale: Tensor
    """fp32 `[]`, or `[..., 1]` per token."""
    tiled: bool
    """Whether the block scales are in tiles, as the FP4 GEMM takes them."""


def quantize(
    x: Tensor,
    scaling: Scaling = "tensor",
    scale: Tensor | None = None,
    *,
    rule: str = "spec",
    tiled: bool = False,
    backend: Backend = "auto",
) -> Nvfp4Tensor:
    """Quantize `x` along its last axis.

    Args:
        x: fp16, bf16 or fp32 `[..., K]`, K a multiple of 16.
        scaling: `tensor` or `token`, a run-time scale for all or for each row; `static`; `single`, which is 1.
        scale: fp32 `[]`, the scale of `static`.
        rule: `spec`, or another of `format.scale_rule`'s; the CUDA kernels have `spec` and `torchao`.
        tiled: whether block scales come in tiles of 128 rows by 4, padded with zeros.
        backend: see the module.

    Raises:
        FeatureUnsupportedError: `cuda` is asked for what the kernels do not take.
        ValueError: K is not a multiple of 16, or `scale` does not go with `scaling`.
    """
    if backend == "cuda":
        _require(cuda.takes(x, rule), f"{x.dtype} on {x.device}, rule {rule}")
    call = ops.quantize_scaled_torch if backend == "torch" else ops.quantize_scaled
    packed, block_scale, used = call(x, scaling, scale, rule, tiled)
    return Nvfp4Tensor(packed, block_scale, used, tiled)


def dequantize(x: Nvfp4Tensor, dtype: torch.dtype = torch.float32, *, backend: Backend = "auto") -> Tensor:
    """Return the values `[..., K]`: e2m1 · block scale · scale, in fp32, rounded once to `dtype`.

    Raises:
        FeatureUnsupportedError: `cuda` is asked for what the kernels do not take.
    """
    rows, half = x.packed.numel() // x.packed.shape[-1], x.packed.shape[-1]
    block_scale = x.block_scale
    if x.tiled:
        block_scale = fmt.unswizzle_scales(block_scale, rows, half // 8).view(*x.packed.shape[:-1], half // 8)
    if backend == "cuda":
        _require(cuda.takes_packed(x.packed, block_scale, x.scale, dtype), f"{dtype} on {x.packed.device}")
    call = fmt.dequantize if backend == "torch" else ops.dequantize
    values: Tensor = call(x.packed, block_scale, x.scale, dtype)
    return values


def gemm(
    a: Nvfp4Tensor,
    b: Nvfp4Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Return `a · bᵀ + bias`, `[M, N]`, accumulated in fp32.

    `auto` multiplies FP4 where the GPU can (compute capability 10.0 and later) and the kernel pack that
    `NVFP4_TRT_PACK` names has the GEMM; everywhere else, on Hopper too, it dequantizes both and calls the
    library's GEMM of `dtype`. `cuda` takes the pack's kernel on Hopper as well, where it emulates FP4: for tests.
    The FP4 GEMM has been run on Hopper only.

    Args:
        a: `[M, K]`, one scale or one per token; tiled for the FP4 kernel.
        b: `[N, K]`, likewise.
        bias: `[N]`, or None.
        dtype: fp16, bf16 or fp32.
        backend: see the module.

    Raises:
        FeatureUnsupportedError: `cuda` is asked for what the kernel does not take.
        KernelMissingError: the pack has no GEMM for this GPU.
    """
    n, k = b.packed.shape[0], a.packed.shape[-1] * 2
    takes = a.packed.is_cuda and a.tiled and b.tiled and n % 8 == 0 and k % 32 == 0 and a.packed.dim() == 2  # noqa: PLR2004
    if backend == "cuda":
        _require(takes, f"M x {n} x {k}, tiled: {a.tiled} and {b.tiled}, on {a.packed.device}")
    if takes and (backend == "cuda" or (backend == "auto" and _has_fp4(a.packed.device))):
        return _fp4_gemm(a[:3], b[:3], None if bias is None else bias.to(dtype), dtype)
    return F.linear(dequantize(a, dtype), dequantize(b, dtype), None if bias is None else bias.to(dtype))


def _has_fp4(device: torch.device) -> bool:
    gpu = cuda.gpu(device.index)
    return gpu is not None and gpu.sm >= _FIRST_FP4 and bool(gpu.pack.manifest.gemm_tiles)


def _require(takes: bool, what: str) -> None:
    if not takes:
        raise FeatureUnsupportedError(
            f"the CUDA kernels do not take this: {what}",
            "use backend='auto', and see nvfp4_trt.ops for what the kernels take",
        )
