"""From files and reports to a page; what running the model told is given, so that no torch is needed here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.atomic import check_writable, output_file
from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.reporting.collect import collect
from nvfp4_trt.reporting.render import check_packages, render, render_pair
from nvfp4_trt.reporting.stored import is_stored, read_report
from nvfp4_trt.stages import stage
from nvfp4_trt.timing import load_bench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.reporting.data import Report
    from nvfp4_trt.reporting.measured import Measured

    Engines = tuple[str | Path | None, str | Path | None]


class Reported(NamedTuple):
    """What was written."""

    page: Path
    report: Report
    other: Report | None
    """That of the other model, where two were compared."""


def check_request(
    page: Path, sources: Sequence[Path], engines: Engines, gpu: str | None, *, runs: bool = False
) -> list[Path]:
    """Refuse what cannot be done, or would have no effect; before anything is read.

    Args:
        page: the page to write.
        sources: one or two files or reports.
        engines: of each; None where none is named.
        gpu: that times are modelled on, where one is named.
        runs: whether the model is to be run.

    Returns:
        Those of the sources that are no reports already.

    Raises:
        OutputUnwritableError: see `nvfp4_trt.atomic`.
        DependencyMissingError: see `check_packages`.
        WrongKindError: an option is about a file, and there are reports only.
    """
    check_writable(page)
    check_packages()
    files = [source for source in sources if not is_stored(source)]
    if engines[1] is not None and len(sources) == 1:
        raise WrongKindError("--other-engine is given, and no other model", "name the engine with --engine")
    for source, engine, option in zip(sources, engines, ("--engine", "--other-engine"), strict=False):
        if engine is not None and source not in files:
            raise WrongKindError(f"{option} is given, and {source} is a report already", "give the .onnx file")
    if not files and (gpu is not None or runs):
        option = "--reference" if runs else "--gpu"
        raise WrongKindError(f"{option} is given, and {sources[0]} is a report already", "give the .onnx file")
    return files


def write_report(
    page: Path,
    sources: Sequence[Path],
    engines: Engines,
    gpu: str | None = None,
    measured: Mapping[Path, Measured] | None = None,
    bench: Path | None = None,
    dims: Sequence[str] = (),
) -> Reported:
    """Write the page of one model or of two; see `check_request`, which comes first.

    Args:
        page: see there.
        sources: see there.
        engines: see there.
        gpu: see there.
        measured: what running the model told, by file.
        bench: what was measured of the first file's engine, a `.json` file.
        dims: ranges of dynamic dimensions for plans of files without an engine.

    Raises:
        Nvfp4Error: those of `collect`, `read_report` and `load_bench`.
        WrongKindError: times are given of what is a report already.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    told = measured or {}
    times = None if bench is None else load_bench(bench)
    if times is not None and is_stored(sources[0]):
        raise WrongKindError(f"--bench is given, and {sources[0]} is a report already", "give the .onnx file")
    made = []
    for source, engine in zip(sources, engines, strict=False):
        if is_stored(source):
            made.append(read_report(source))
            continue
        with stage(f"reading {source}"):
            named = None if engine is None else Path(engine)
            timed = None if made else times
            made.append(collect(source, engine=named, gpu=gpu, dims=dims, measured=told.get(source), bench=timed))
    with stage(f"writing {page}"):
        text = render(made[0]) if len(made) == 1 else render_pair(made[0], made[1])
        with output_file(page) as scratch:
            scratch.write_text(text, encoding="utf-8")
    return Reported(page, made[0], made[1] if len(made) > 1 else None)
