"""What TensorRT's log says of the memory that an engine needs."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

_ACTIVATION = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


class BuilderMemory(BaseModel):
    """Device memory of an engine, as its builder states it."""

    model_config = ConfigDict(frozen=True)

    activation_bytes: int
    """For activations and scratch, at the largest shape of the profile."""
    weight_bytes: int
    """For weights and constants."""


def activation_bytes(log: str) -> list[int]:
    """Read the memory for activations that a builder's log states, once for each profile."""
    return [int(found) for found in _ACTIVATION.findall(log)]


def builder_memory(log: str) -> BuilderMemory:
    """Read the memory that an engine needs from the log of its build.

    Args:
        log: the text of the log, at TensorRT's level VERBOSE or INFO. Of several engines, the last one counts.

    Raises:
        ValueError: the log lacks one of the two lines.
    """
    activation, weights = activation_bytes(log), _WEIGHTS.findall(log)
    if not activation or not weights:
        raise ValueError("the log does not state the activation and weight memory of an engine")
    return BuilderMemory(activation_bytes=activation[-1], weight_bytes=int(weights[-1]))
