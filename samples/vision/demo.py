"""A vision transformer with real weights: a linear probe on its features, float and quantized, and its engine.

Run it with `python -m samples.vision.demo` in an environment that has the package, its extras `rtx` and `hf`, and
scikit-learn. The first run fetches the weights (90 MB). No GPU is needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime
import torch
from rich.console import Console
from sklearn.linear_model import LogisticRegression

import nvfp4_trt
from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY
from nvfp4_trt.recipe import DEFAULT_RECIPE, RECIPES
from samples.vision import model

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET, DIMS = "sm_120", ("batch=1:8:32",)
BATCH = 32


@dataclass(frozen=True)
class Scores:
    """The float model and the exported file on the same held-out images."""

    images: int
    float_accuracy: float
    accuracy: float
    sqnr_db: float
    """Of the features."""


def run(recipe: str, layers: int, training: int, held_out: int, folder: Path) -> tuple[Scores, str]:
    """Fit the probe, export, build and score; return the scores, and what the audit found.

    Args:
        recipe: a built-in name.
        layers: how many of the backbone's twelve it has.
        training: images that the probe is fitted on, and static scales calibrated.
        held_out: other images, that are scored.
        folder: where the files go.

    Raises:
        Fp4LostError: a GEMM of the engine is not FP4.
        Nvfp4Error: any other step failed.
    """
    backbone = model.backbone()
    backbone.encoder.layer = backbone.encoder.layer[:layers]
    features = model.Features(backbone).eval()
    images, labels = model.digits(training + held_out)
    calibration = [{"pixel_values": part} for part in images[:training].split(BATCH)]
    onnx = folder / "dinov2.onnx"
    nvfp4_trt.export(features, onnx, recipe=recipe, inputs=calibration, dynamic=("batch",))
    engine = nvfp4_trt.build(onnx, folder / "dinov2.engine", targets=(TARGET,), dims=DIMS)

    with torch.no_grad():
        fitted_on, expected = (features(part).numpy() for part in (images[:training], images[training:]))
    # The probe knows the float model only: what quantization does to features it has to bear.
    probe = LogisticRegression(max_iter=2000).fit(fitted_on, labels[:training])
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    got = session.run(None, {"pixel_values": images[training:].numpy()})[0]
    metrics = Accumulator("features")
    metrics.add(expected, got)
    truth = labels[training:]
    scores = Scores(held_out, probe.score(expected, truth), probe.score(got, truth), metrics.metrics().sqnr_db)
    counts = {kind: engine.audit.counts(kind) for kind in (NVFP4, WEIGHT_ONLY)}
    told = ", ".join(f"{fp4} of {asked} layers are {kind}" for kind, (asked, fp4) in counts.items() if asked)
    return scores, f"{engine.path}: {told}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m samples.vision.demo", description=__doc__)
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, choices=list(RECIPES))
    parser.add_argument("--layers", type=int, default=12, help="of the backbone, 12 by default")
    parser.add_argument("--training", type=int, default=256, help="images to fit the probe on, 256 by default")
    parser.add_argument("--held-out", type=int, default=192, help="images to score, 192 by default")
    parser.add_argument("--output", type=Path, default=Path("out/vision"), help="folder for the files")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"DINOv2 small, {options.layers} layers, {options.recipe}: export, build, audit, score …")
    try:
        scores, audited = run(options.recipe, options.layers, options.training, options.held_out, options.output)
    except Nvfp4Error as error:
        console.print(f"error[{error.code}]: {error.message}\nhint: {error.hint}", markup=False, soft_wrap=True)
        return error.exit_status
    console.print(f"{scores.images} digits, accuracy of the probe: float {scores.float_accuracy:.1%},")
    console.print(f"    exported file on ONNX Runtime {scores.accuracy:.1%}; features {scores.sqnr_db:.1f} dB")
    console.print(audited, soft_wrap=True)
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    sys.exit(main())
