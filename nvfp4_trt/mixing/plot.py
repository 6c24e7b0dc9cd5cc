"""A picture of the damage: one bar for each layer, the worst on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import DependencyMissingError, InputSpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.mixing.result import Sensitivity

FORMATS = (".png", ".svg")
_INCHES_A_LAYER = 0.2
_DPI = 120
_KEPT, _FP4 = "tab:orange", "tab:blue"


def check_plot(path: Path) -> None:
    """Refuse a plot early, before the work that it would show.

    Raises:
        InputSpecError: the file's name ends in none of `FORMATS`.
        DependencyMissingError: matplotlib is not installed.
    """
    if path.suffix not in FORMATS:
        raise InputSpecError(f"--plot {path} is neither .png nor .svg", "name it plot.png or plot.svg")
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise DependencyMissingError(
            "--plot needs matplotlib, which is not installed", "pip install 'nvfp4-trt[plot]'"
        ) from error


def write_plot(result: Sensitivity, path: Path) -> None:
    """Write the bars; layers that a found recipe keeps have another colour.

    The same result gives the same bytes.

    Raises:
        InputSpecError, DependencyMissingError: see `check_plot`.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    check_plot(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    kept = () if result.found is None else result.found.kept
    names = [layer.name for layer in result.layers]
    figure = Figure(figsize=(9, 1.2 + _INCHES_A_LAYER * len(names)), layout="constrained")
    axes = figure.add_subplot()
    colours = [_KEPT if name in kept else _FP4 for name in names]
    axes.barh(names, [layer.sqnr_db for layer in result.layers], color=colours)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel(f"SQNR of the output with this layer alone in FP4, dB ({result.method})")
    axes.set_title(f"{result.recipe}: all layers together {result.sqnr_db:.1f} dB", fontsize=9)
    dated = {"Date": None} if path.suffix == ".svg" else {}
    with output_file(path) as made, mpl.rc_context({"svg.hashsalt": "nvfp4-trt"}):
        figure.savefig(made, dpi=_DPI, metadata=dated)
