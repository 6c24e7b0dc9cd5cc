"""What every checkpoint format says, in one form: packed weights, scales as they are stored, activations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nvfp4_trt.checkpoints.source import Source


class Format(StrEnum):
    """The formats of NVFP4 checkpoints."""

    PACKED = "packed"
    """This package's own: a safetensors file as `nvfp4-trt pack` writes it."""
    TORCHAO = "torchao"
    """torchao's `NVFP4Tensor`, flattened into safetensors or as a `torch.save`d state dict."""
    COMPRESSED_TENSORS = "compressed-tensors"
    """compressed-tensors' `nvfp4-pack-quantized`, which llm-compressor writes and vLLM reads."""
    MODELOPT = "modelopt"
    """ModelOpt's unified Hugging Face checkpoint."""


class Scale(NamedTuple):
    """A scale over a whole tensor, as its file has it: the number that multiplies, or its reciprocal.

    Half of all fp32 numbers are not the rounded reciprocal of any other, so which of the two was stored is kept.
    """

    value: float
    """An fp32 number, positive, finite."""
    reciprocal: bool = False

    def multiplier(self) -> float:
        """Return the fp32 number that codes and block scales are multiplied by."""
        return inverse(self.value) if self.reciprocal else self.value

    def divisor(self) -> float:
        """Return the reciprocal of `multiplier`, rounded once."""
        return self.value if self.reciprocal else inverse(self.value)


def inverse(value: float) -> float:
    """Return 1 / value in fp32; 0 or infinity where that is out of its range."""
    with np.errstate(over="ignore", divide="ignore"):
        return float(np.float32(1) / np.float32(value))


class Activation(NamedTuple):
    """How the input of a layer is quantized."""

    scaling: ActivationScaling
    scale: Scale | None = None
    """Of, and only of, static scaling."""


WEIGHT_ONLY = Activation(ActivationScaling.NONE)


@dataclass(frozen=True)
class StoredWeight:
    """One packed weight of a checkpoint."""

    name: str
    """The name that the unquantized weight has, such as `encoder.layer.0.fc.weight`."""
    dtype: torch.dtype
    """What it was, and what it is dequantized to."""
    packed: Tensor
    """uint8 `[N, K/2]`, low nibble first."""
    block_scale: Tensor
    """float8_e4m3fn `[N, K/16]`, in rows."""
    scale: Scale | None
    """The per-tensor scale; None where there is none (a single level of scales)."""
    activation: Activation | None
    """None where the checkpoint does not say."""
    transposed: bool = False
    """Whether the unquantized weight is `[K, N]`, as Hugging Face's `Conv1D` stores it."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked."""

    source: Source
    format: Format
    weights: dict[str, StoredWeight]
    """By name."""
    others: dict[str, Tensor]
    """Tensors that are not quantized, mapped from their files."""

    @property
    def unquantized_layers(self) -> list[str]:
        """The layers whose weight is a matrix that is not quantized, sorted; embeddings are among them.

        An `lm_head` that is tied with an embedding has no tensor in the file.
        """
        names = [name for name, tensor in self.others.items() if tensor.dim() == 2]  # noqa: PLR2004
        layers = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}
        if (self.source.config or {}).get("tie_word_embeddings") and "lm_head.weight" not in self.weights:
            layers.add("lm_head")
        return sorted(layers)


class Written(NamedTuple):
    """A checkpoint in the form of one format, before it is on a disk."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """Of the safetensors header."""
    quantization: dict[str, Any] | None = None
    """`quantization_config` of `config.json`; None where the format has none."""
    files: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default)
    """JSON files beside, by name."""
    alone: bool = False
    """Whether the tensors' file is enough: its header says all."""
