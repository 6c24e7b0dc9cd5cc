"""What a method says about scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nvfp4_trt.format import scale_from_amax

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nvfp4_trt.format import ScaleRule

    ChooseTensorScale = Callable[[Tensor, Tensor, ScaleRule], tuple[Tensor, Tensor]]


class ChooseBlockScales(Protocol):
    """Chooses block scales; without `importance` it is a `format.scales.ChooseScales`."""

    def __call__(
        self,
        blocks: Tensor,
        amax: Tensor,
        usual: Tensor,
        scale: Tensor,
        inverse: Tensor,
        rule: ScaleRule,
        importance: Tensor | None = None,
    ) -> Tensor:
        """Return block scales e4m3fn `[B]`.

        Args:
            blocks: fp16, bf16 or fp32 `[B, 16]`, finite.
            amax: their largest magnitudes, fp32 `[B]`.
            usual: the block scales that the rule makes of these, e4m3fn `[B]`.
            scale: the per-tensor scale, fp32, one number.
            inverse: its reciprocal.
            rule: how block scales are rounded.
            importance: what a squared error of each column counts, fp32 `[16]`; all alike by default.
        """


def _from_largest(_blocks: Tensor, amax: Tensor, rule: ScaleRule) -> tuple[Tensor, Tensor]:
    return scale_from_amax(amax.amax(), rule)


@dataclass(frozen=True)
class ScaleChoice:
    """How a method chooses the two levels of scales of a weight."""

    block_scales: ChooseBlockScales | None = None
    """None for the scale rule's own."""
    per_tensor: ChooseTensorScale = _from_largest
    """Takes the blocks `[B, 16]` and their largest magnitudes fp32 `[B]`; returns scale and reciprocal."""
