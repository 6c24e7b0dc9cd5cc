"""Taking a checkpoint's tensors one by one: each is what its format says, and none is left over unnoticed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.checkpoints.weights import Scale, inverse
from nvfp4_trt.errors import (
    CheckpointConfigError,
    ScaleInvalidError,
    TensorInvalidError,
    TensorMissingError,
    TensorUnexpectedError,
)
from nvfp4_trt.format import BLOCK, unswizzle_scales
from nvfp4_trt.loading.stored import read, release

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from nvfp4_trt.checkpoints.source import Source

_AGAIN = "write the checkpoint again, or fetch it again"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_SIGN, _MAGNITUDE = 0x80, 0x7F


class Taking:
    """A source's tensors, and which of them have been taken.

    Args:
        source: what was read.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._left = dict(source.tensors)

    def __contains__(self, name: str) -> bool:
        """Return whether a tensor is there, taken or not."""
        return name in self.source.tensors

    def home(self, name: str) -> Path:
        """Return the file that a tensor is in; the checkpoint's path where it is in none."""
        return self.source.homes.get(name, self.source.path)

    def codes(self, name: str) -> Tensor:
        """Take packed codes: uint8 `[N, K/2]`, K a multiple of 16.

        Raises:
            TensorMissingError, TensorInvalidError: they are not there, or are something else.
        """
        found = self._taken(name, "the packed codes of a weight")
        if found.dtype != torch.uint8 or found.dim() != 2 or 0 in found.shape or found.shape[1] % (BLOCK // 2):  # noqa: PLR2004
            raise self._invalid(name, found, f"uint8 [N, K/2] with K a multiple of {BLOCK}")
        return found

    def block_scale(self, name: str, codes: Tensor, of: str) -> Tensor:
        """Take the block scales of codes: float8_e4m3fn `[N, K/16]`, in rows.

        Raises:
            TensorMissingError, TensorInvalidError: they are not there, or of another dtype or shape.
            CheckpointConfigError: they are of another group size.
            ScaleInvalidError: one is negative or NaN, or 0 where its codes are not.
        """
        found = self._taken(name, of)
        n, k = codes.shape[0], codes.shape[1] * 2
        rows = found.dtype == torch.float8_e4m3fn and found.dim() == 2 and found.shape[0] == n  # noqa: PLR2004
        if rows and found.shape[1] and k % found.shape[1] == 0 and k // found.shape[1] != BLOCK:
            raise CheckpointConfigError(
                f"{self.home(name)}: {name} has a scale for each {k // found.shape[1]} elements of {of}; "
                f"NVFP4 has one for each {BLOCK}",
                "give an NVFP4 checkpoint (group size 16)",
            )
        if found.dtype != torch.float8_e4m3fn or tuple(found.shape) != (n, k // BLOCK):
            raise self._invalid(name, found, f"float8_e4m3fn [{n}, {k // BLOCK}]")
        self.check_block_scale(name, found, codes, of)
        return found

    def tiled_block_scale(self, name: str, codes: Tensor, of: str) -> Tensor:
        """Take block scales in tiles of 128 rows by 4, and return them in rows, in memory.

        Raises:
            TensorMissingError, TensorInvalidError, ScaleInvalidError: as for `block_scale`.
        """
        found = self._taken(name, of)
        n, blocks = codes.shape[0], codes.shape[1] * 2 // BLOCK
        tiles = (-(-n // 128) * 32, -(-blocks // 4) * 16)
        if found.dtype != torch.float8_e4m3fn or tuple(found.shape) != tiles:
            raise self._invalid(name, found, f"float8_e4m3fn {list(tiles)}, in tiles")
        rows = unswizzle_scales(read(found).reshape(-1), n, blocks).contiguous()
        release(found)
        self.check_block_scale(name, rows, codes, of)
        return rows

    def require(self, name: str, of: str) -> None:
        """Check that a tensor is there.

        Raises:
            TensorMissingError: it is not.
        """
        self._taken(name, of)

    def check_block_scale(self, name: str, scale: Tensor, codes: Tensor, of: str) -> None:
        """Look at every block scale `[N, K/16]`.

        Raises:
            ScaleInvalidError: one is negative or NaN, or 0 where its codes are not.
        """
        bits = read(scale).contiguous().view(torch.uint8)
        bad = "negative" if bool((bits & _SIGN).any()) else ""
        bad = "NaN" if bool(((bits & _MAGNITUDE) == _MAGNITUDE).any()) else bad
        dead = bits == 0
        if not bad and bool(dead.any()):
            values = read(codes).view(*bits.shape, BLOCK // 2)[dead] & 0x77  # without the signs of two codes
            bad = "0 where their codes are not" if bool(values.any()) else ""
        release(scale)
        release(codes)
        if bad:
            raise ScaleInvalidError(f"{self.home(name)}: block scales in {name} of {of} are {bad}", _AGAIN)

    def scale(self, name: str, of: str, *, reciprocal: bool) -> Scale:
        """Take a scale over a whole tensor: one fp32 number, positive and finite.

        Raises:
            TensorMissingError, TensorInvalidError, ScaleInvalidError: as they say.
        """
        found = self._taken(name, of)
        if found.dtype != torch.float32 or found.numel() != 1:
            raise self._invalid(name, found, "float32 [] or [1]")
        value = float(found)
        if not 0 < value < math.inf or not 0 < inverse(value) < math.inf:
            raise ScaleInvalidError(
                f"{self.home(name)}: {name}, a scale of {of}, is {value}: it has to be positive, and its "
                "reciprocal finite",
                _AGAIN,
            )
        return Scale(value, reciprocal)

    def others(self, *, never: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the tensors that were not taken.

        Args:
            never: endings of names that only a quantized weight's tensors have.

        Raises:
            TensorUnexpectedError: one of them belongs to no quantized weight, or is packed or scales itself.
        """
        for name, tensor in self._left.items():
            if name.endswith(never):
                raise TensorUnexpectedError(
                    f"{self.home(name)}: the tensor {name} belongs to no quantized weight", _AGAIN
                )
            if tensor.dtype == torch.float8_e4m3fn:
                raise TensorUnexpectedError(
                    f"{self.home(name)}: the tensor {name} is {_dtype(tensor)}, and no scale of a weight",
                    "only weights in NVFP4 and in 16 or 32 bits are read",
                )
        return self._left

    def dtype(self, name: str, carried: str | None) -> torch.dtype:
        """Return the dtype that a weight had: as the file, the configuration, or all its other tensors say.

        Raises:
            CheckpointConfigError: nothing says it, or it is no dtype of a weight.
        """
        config = self.source.config or {}
        said = carried or config.get("dtype") or config.get("torch_dtype")
        if said is not None:
            found = getattr(torch, str(said).removeprefix("torch."), None)
            if found not in _FLOATS:
                raise CheckpointConfigError(
                    f"{self.home(name)}: {name} is said to have been {said}",
                    "float16, bfloat16 and float32 are known",
                )
            return found  # type: ignore[no-any-return]
        seen = {tensor.dtype for tensor in self._left.values() if tensor.dtype in _FLOATS and tensor.dim()}
        if len(seen) != 1:
            raise CheckpointConfigError(
                f"{self.source.path}: nothing says which dtype {name} had before it was packed",
                'put `"dtype": "bfloat16"`, or what it was, into config.json',
            )
        return seen.pop()

    def _taken(self, name: str, of: str) -> Tensor:
        if name not in self.source.tensors:
            raise TensorMissingError(f"{self.source.path} lacks the tensor {name}, of {of}", _AGAIN)
        self._left.pop(name, None)
        return self.source.tensors[name]

    def _invalid(self, name: str, found: Tensor, wanted: str) -> TensorInvalidError:
        return TensorInvalidError(
            f"{self.home(name)}: {name} is {_dtype(found)} {list(found.shape)}, and should be {wanted}", _AGAIN
        )


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
