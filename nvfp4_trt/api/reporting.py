"""A model, its engine and its errors on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.api.sources import model_path
from nvfp4_trt.atomic import check_writable, output_file

if TYPE_CHECKING:
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.reporting import Report


def report(
    model: str | Path | OnnxArtifact,
    output: str | Path,
    *,
    engine: str | Path | None = None,
    gpu: str | None = None,
) -> Report:
    """Write a report of a portable ONNX file: one HTML file that needs no network.

    Args:
        model: the ONNX file.
        output: the page to write.
        engine: the engine that was built from it, or its record; by default what lies beside the file under its
            name, as `model.engine.json` beside `model.onnx`.
        gpu: that times are modelled on; by default one of the engine's first target.

    Raises:
        Nvfp4Error: any of `nvfp4_trt.errors`.
    """
    from nvfp4_trt.reporting import check_packages, collect, render

    page = Path(output)
    check_writable(page)
    check_packages()
    made = collect(model_path(model), engine=None if engine is None else Path(engine), gpu=gpu)
    text = render(made)
    with output_file(page) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return made
