"""What one format holds and another does not, carried in the header's metadata, so that converting back is exact.

A peer passes over such entries. They never decide anything by themselves: an entry counts only where it agrees
with the tensors, so one that outlived a change to the file is ignored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nvfp4_trt.checkpoints.weights import WEIGHT_ONLY, Scale, StoredWeight, inverse

if TYPE_CHECKING:
    from torch import Tensor

    from nvfp4_trt.checkpoints.taking import Taking
    from nvfp4_trt.checkpoints.weights import Activation, Checkpoint

KEY = "nvfp4_trt.carried"


def carried_entries(checkpoint: Checkpoint, *, reciprocal: bool) -> dict[str, str]:
    """Return the metadata entry for a format that stores neither dtypes nor single-level scaling.

    Args:
        checkpoint: what is written.
        reciprocal: whether the format stores reciprocals of per-tensor scales.
    """
    entries = {weight.name: _entry(weight, reciprocal) for weight in checkpoint.weights.values()}
    return {KEY: json.dumps(entries)}


def _entry(weight: StoredWeight, reciprocal: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"dtype": str(weight.dtype).removeprefix("torch.")}
    scales = {"scale": weight.scale, "input_scale": weight.activation.scale if weight.activation else None}
    for key, scale in scales.items():
        if scale is not None and scale.reciprocal != reciprocal and inverse(inverse(scale.value)) != scale.value:
            entry[key] = scale.value
    if weight.scale is None:
        entry["single_level"] = True
    if weight.activation is None:
        entry["activation_unsaid"] = True
    return entry


class Carried:
    """What a header carries.

    Args:
        metadata: the header's entries.
    """

    def __init__(self, metadata: dict[str, str]) -> None:
        try:
            found = json.loads(metadata.get(KEY, "{}"))
        except ValueError:
            found = {}
        self._entries: dict[str, Any] = found if isinstance(found, dict) else {}

    def dtype(self, name: str) -> str | None:
        """Return the name of the dtype that a weight had."""
        return self._of(name).get("dtype")

    def scale(self, name: str, stored: Scale) -> Scale | None:
        """Return a weight's own per-tensor scale: the number that was there before it was inverted, or None."""
        if self._of(name).get("single_level") is True and stored.value == 1.0:
            return None
        return self._exact(name, "scale", stored)

    def activation(self, name: str, stored: Activation) -> Activation | None:
        """Return how the input of a weight's layer was quantized, the scale exact; None where it was unsaid."""
        if self._of(name).get("activation_unsaid") is True and stored == WEIGHT_ONLY:
            return None
        if stored.scale is None:
            return stored
        return stored._replace(scale=self._exact(name, "input_scale", stored.scale))

    def weight(
        self,
        taking: Taking,
        name: str,
        codes: Tensor,
        block_scale: Tensor,
        scale: Scale,
        activation: Activation,
    ) -> StoredWeight:
        """Return a weight of a format that stores neither dtypes nor single-level scaling, with what is carried.

        Args:
            taking: where its tensors were taken from.
            name: its own, unquantized.
            codes: uint8 `[N, K/2]`.
            block_scale: float8_e4m3fn `[N, K/16]`.
            scale: as the file has it.
            activation: as the file says.

        Raises:
            CheckpointConfigError: see `Taking.dtype`.
        """
        return StoredWeight(
            name,
            taking.dtype(name, self.dtype(name)),
            codes,
            block_scale,
            self.scale(name, scale),
            self.activation(name, activation),
        )

    def _exact(self, name: str, key: str, stored: Scale) -> Scale:
        value = self._of(name).get(key)
        if isinstance(value, float) and value > 0 and inverse(value) == stored.value:
            return Scale(value, not stored.reciprocal)
        return stored

    def _of(self, name: str) -> dict[str, Any]:
        entry = self._entries.get(name)
        return entry if isinstance(entry, dict) else {}
