"""A sentence encoder's report, and the same encoder with some layers in FP8 beside it.

Run it with `python -m samples.report.demo` in an environment that has the package and its extras `rtx`, `hf` and
`report`. No GPU is needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import nvfp4_trt
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.loading import load_model
from samples.minilm import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from nvfp4_trt import Report

FP8 = "encoder.layer.*.output.dense"
"""Down projections, which lose most, and the projections behind attention."""
RANGES = ("batch=1:8:32", "sequence=1:128:512")


def encoder(depth: int) -> nn.Module:
    """Return the float encoder with its first layers only; it has six."""
    module = load_model(inputs.model_folder()).module
    module.encoder.layer = module.encoder.layer[:depth]
    return module


def make(folder: Path, depth: int, batches: int, *, engine: bool) -> list[Report]:
    """Export the encoder twice, and write a page of each and one of both.

    Args:
        folder: where everything goes.
        depth: how many of its layers the encoder has.
        batches: how many batches of sentences errors and activations are from.
        engine: build engines too, so that the pages show them.

    Returns:
        The data of the two pages.

    Raises:
        Nvfp4Error: a step failed.
    """
    module = encoder(depth)
    pages, reports = [], []
    for name, fp8 in (("fp4", ()), ("mixed", (FP8,))):
        onnx, page = folder / f"{name}.onnx", folder / f"{name}.html"
        nvfp4_trt.export(module, onnx, fp8=fp8, inputs=inputs.calibration(), dynamic=("batch,sequence",))
        if engine:
            nvfp4_trt.build(onnx, folder / f"{name}.engine", targets=("sm_120",), dims=RANGES)
        sentences = list(islice(inputs.test(), batches))
        reports.append(nvfp4_trt.report(onnx, page, reference=module, inputs=sentences).report)
        pages.append(page)
    # What was measured is in the pages: nothing is run again.
    nvfp4_trt.report(pages[0], folder / "both.html", other=pages[1])
    return reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, make the pages, say where they are; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=6, help="layers of the encoder, 6 by default")
    parser.add_argument("--batches", type=int, default=2, help="batches of sentences that are run, 2 by default")
    parser.add_argument("--no-engine", action="store_true", help="build no engines")
    parser.add_argument("--output", type=Path, default=Path("out/report"), help="where the pages go")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        reports = make(options.output, options.depth, options.batches, engine=not options.no_engine)
    except Nvfp4Error as error:
        print(f"error[{error.code}]: {error.message}\nhint: {error.hint}")
        return error.exit_status
    for report in reports:
        told = ", ".join(f"{output.name} {output.sqnr_db:.1f} dB" for output in report.accuracy)
        print(f"{report.name}: {report.onnx_bytes:,} bytes; {told}")
    print(
        f"open {options.output / 'fp4.html'}, {options.output / 'mixed.html'} and {options.output / 'both.html'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
