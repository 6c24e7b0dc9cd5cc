"""Makes the conformance vectors beside it, from the NumPy reference: python tests/vectors/make_vectors.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from safetensors.torch import save

from nvfp4_trt import format as fmt
from nvfp4_trt.conformance.vectors import PREFIX, VERSION
from nvfp4_trt.format import Arithmetic, reference

RULES = ("spec", "torchao", "modelopt", "compressed-tensors")


def inputs() -> dict[str, tuple[str, np.ndarray, float | None]]:
    """Return each case's scaling, its input and, of a static one, its scale."""
    random = np.random.default_rng(0)
    normal = random.standard_normal((3, 48)).astype(np.float32)
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0], np.float32)
    grid = np.concatenate([ties, -ties, ties * 2, -ties * 2])[None]
    blocks = random.standard_normal((2, 64)).astype(np.float32)
    blocks[0, :16], blocks[1, 16:32], blocks[1, 33::5] = 0.0, -0.0, -0.0
    outlier = random.standard_normal((2, 64)).astype(np.float32)
    outlier[1, 7] = 3e4
    subnormal = random.standard_normal((2, 32)).astype(np.float32)
    subnormal[:, 16:] *= np.float32(2.0**-140)
    small_blocks = np.float32(2.0) ** -np.arange(16, dtype=np.float32).repeat(16)[None] * np.float32(1.7)
    nan, infinite = normal.copy(), normal.copy()
    nan[1, 20], infinite[0, 3], infinite[2, 40] = np.nan, np.inf, -np.inf
    return {
        "normal-fp32": ("tensor", normal, None),
        "normal-fp16": ("tensor", normal.astype(np.float16), None),
        "normal-bf16": ("tensor", normal.astype(ml_dtypes.bfloat16), None),
        "per-token": ("token", normal * np.array([[1e-3], [1], [50]], np.float32), None),
        "static": ("static", normal, 0.0017),
        "static-saturating": ("static", normal * 100, 1e-4),
        "single-level": ("single", normal, None),
        "single-level-small": ("single", normal * np.float32(1e-3), None),
        "heavy-tailed": ("tensor", normal**5, None),
        "large": ("tensor", normal * np.float32(1e4), None),
        "one-outlier": ("tensor", outlier, None),
        "ties": ("static", grid, 1.0),
        "zeros-of-both-signs": ("tensor", blocks, None),
        "all-zero": ("tensor", np.zeros((2, 32), np.float32), None),
        "below-the-smallest-scale": ("tensor", normal * np.float32(1e-36), None),
        "subnormal-blocks": ("tensor", subnormal, None),
        "block-scales-down-to-zero": ("tensor", small_blocks, None),
        "nan-in-a-block": ("tensor", nan, None),
        "infinities": ("static", infinite, 0.002),
    }


def expected(x: np.ndarray, scaling: str, given: float | None, rule: fmt.ScaleRule) -> tuple[np.ndarray, ...]:
    """Return codes, block scales and the scale, as the reference computes them."""
    if scaling == "tensor" and rule.arithmetic is Arithmetic.GLOBAL:
        # The peer computes the reciprocal first and quantizes with it, which the reference has no argument for.
        packed, block_scale, scale = fmt.pack_weight(torch.from_numpy(x.astype(np.float32)), rule)
        return packed.numpy(), block_scale.view(torch.uint8).numpy(), scale.numpy()
    scale = {
        "tensor": lambda: reference.per_tensor_scale(x, rule),
        "token": lambda: reference.per_token_scale(x, rule),
        "static": lambda: np.float32(given),
        "single": lambda: np.float32(1),
    }[scaling]()
    with np.errstate(over="ignore"):  # a block far above a static scale saturates
        packed, block_scale = reference.quantize(x, None if scaling == "single" else np.asarray(scale), rule)
    return packed, block_scale.view(np.uint8), np.asarray(scale, np.float32)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    array = np.array(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def made(rule: str) -> bytes:
    """Return the file of one rule."""
    tensors: dict[str, torch.Tensor] = {}
    told: dict[str, str] = {}
    for name, (scaling, x, given) in inputs().items():
        packed, block_scale, scale = expected(x, scaling, given, fmt.scale_rule(rule))
        with np.errstate(invalid="ignore"):
            output = reference.dequantize(packed, block_scale, scale)
        parts = {"x": x, "packed": packed, "block_scale": block_scale, "scale": scale, "output": output}
        tensors |= {f"{name}/{part}": as_tensor(array) for part, array in parts.items()}
        tensors[f"{name}/block_scale"] = tensors[f"{name}/block_scale"].view(torch.float8_e4m3fn)
        told[name] = scaling
    metadata = {f"{PREFIX}version": VERSION, f"{PREFIX}rule": rule, f"{PREFIX}cases": json.dumps(told)}
    return save(tensors, metadata)


if __name__ == "__main__":
    folder = Path(__file__).parent
    for rule in RULES:
        file = folder / f"{rule}.safetensors"
        file.write_bytes(made(rule))
        sys.stdout.write(f"wrote {file.name}: {file.stat().st_size} bytes\n")
