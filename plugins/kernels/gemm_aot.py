"""The GEMM with the parameters in the order in which TensorRT passes them to an ahead-of-time plugin.

That order is inputs, numbers, outputs, and nothing behind: no workspace, so that K is never split, and two
outputs of one element each take the place of the two scratch pointers that Triton puts at the end. For the same
reason every tile has the loop without descriptors, on every GPU: there is no memory to write them to.
"""
# ruff: noqa: ANN001, ANN201, INP001, N803, PLR0917

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


def _beside(name: str) -> ModuleType:
    """Import a source of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"nvfp4_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is not beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_plain = _beside("gemm")
_gemm = _plain.gemm_kernel

TILES = _plain.TILES
INPUTS = ("a", "b", "a_scales", "b_scales", "alpha", "beta", "bias")
NUMBERS = ("M", "N", "K", "alpha_stride", "beta_stride", "has_bias")
PARAMETERS = (*INPUTS, *NUMBERS, "out")
constants = _plain.constants


def variant(name: str, sm: int) -> Any:  # noqa: ARG001 (the same everywhere)
    """Return how a tile is compiled for an architecture."""
    return TILES[name]


def signature(dtype: str) -> dict[str, str]:
    """Return Triton's signature of `gemm_kernel` for the output dtype `f16`, `bf16` or `f32`."""
    kinds: Mapping[str, str] = _plain.signature(dtype)
    blocks = {name: kind for name, kind in kinds.items() if kind == "constexpr"}
    return {**{name: kinds[name] for name in PARAMETERS}, **blocks}


def attributes() -> dict[tuple[int], list[list[object]]]:
    """Return Triton's attributes: the pointers that the contract aligns to 16 bytes."""
    aligned = [name for name in _plain.ALIGNED if name in PARAMETERS]
    return {(PARAMETERS.index(name),): [["tt.divisibility", 16]] for name in aligned}


@triton.jit
def gemm_kernel(a, b, a_scales, b_scales, alpha, beta, bias,
                M, N, K, alpha_stride, beta_stride, has_bias, out,
                BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
                DESCRIBED: tl.constexpr):  # fmt: skip
    """Compute one tile of D; the arguments are those of `gemm.py`, with K in one share."""
    _gemm(a, b, a_scales, b_scales, alpha, beta, bias, out, beta, alpha,
          M, N, K, alpha_stride, beta_stride, has_bias, 1, BLOCK_M, BLOCK_N, BLOCK_K, DESCRIBED)  # fmt: skip
