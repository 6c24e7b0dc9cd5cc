"""Plots as SVG that takes its colours from the page: drawn by matplotlib, in two widths."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matplotlib.axes import Axes

    from nvfp4_trt.reporting.data import Layer, Scales
    from nvfp4_trt.reporting.difference import Both

_INK, _FAINT = "#010203", "#010204"
_SERIES = ("#010205", "#010206", "#010207")
_COLOURS = {_INK: "currentColor", _FAINT: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)
}
"""What stands in for a colour while matplotlib draws → what the page's style says."""
_SIZES = ((16.5, 3.8), (6.2, 3.4))
"""Wide and narrow, in inches of 72 units, which are about the page's pixels; the page shows one of the two."""
_FEW = 60
"""Up to so many layers each has a marker of its own."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.titlesize": 12,
}


class Chart(NamedTuple):
    """One plot."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup


def draw(title: str, caption: str, plot: Callable[[Axes], None]) -> Chart:
    """Draw a plot in both widths.

    Args:
        title: what it shows; also what a screen reader says of it.
        caption: what to read from it.
        plot: draws on axes, in the colours of `_SERIES`.
    """
    return Chart(title, caption, *(_svg(title, size, plot) for size in _SIZES))


def _svg(title: str, size: tuple[float, float], plot: Callable[[Axes], None]) -> Markup:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{title} {size}"}):  # ids are unique on the page
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.add_subplot())
        made = io.StringIO()
        figure.savefig(made, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = made.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # these are numbered anew in each plot
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    label = Markup('role="img" aria-label="{}"').format(title)
    return Markup(text.replace("<svg", f"<svg {label}", 1))  # noqa: S704 (matplotlib escapes what it writes)


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _markers(count: int) -> dict[str, Any]:
    return {"marker": "o", "markersize": 5, "linewidth": 0} if count <= _FEW else {"linewidth": 1.2}


def _finish(axes: Axes, count: int, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axes.set_xlabel("layer, in the model's order")
    axes.set_ylabel(label)
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(0.3, max(count, 1) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def errors_chart(layers: Sequence[Layer]) -> Chart | None:
    """Return SQNR by layer: of what came out, and of the layer by itself; None where nothing is known."""
    known = [layer for layer in layers if layer.error is not None and layer.error.sqnr_db is not None]
    if not known:
        return None
    places = list(range(1, len(known) + 1))
    total = _numbers(layer.error.sqnr_db if layer.error else None for layer in known)
    own = _numbers(layer.error.own_sqnr_db if layer.error else None for layer in known)

    def plot(axes: Axes) -> None:
        axes.bar(places, total, color=_SERIES[0], width=0.8, label="output, with what it inherits")
        if not all(map(math.isnan, own)):
            axes.plot(places, own, color=_SERIES[1], label="the layer alone", **_markers(len(known)))
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        _finish(axes, len(known), "SQNR, dB")

    return draw("SQNR of each layer's output, dB", "Higher is better. The table of layers has the numbers.", plot)


def pair_chart(layers: Sequence[Both]) -> Chart | None:
    """Return SQNR by layer in two models; None where nothing is known of either."""
    sides = [
        _numbers(layer.error.sqnr_db if layer and layer.error else None for layer in each)
        for each in ([both.first for both in layers], [both.second for both in layers])
    ]
    kept = [place for place in range(len(layers)) if not all(math.isnan(side[place]) for side in sides)]
    if not kept:
        return None

    def plot(axes: Axes) -> None:
        for side, colour, name in zip(sides, _SERIES, ("first", "second"), strict=False):
            heights = [side[place] for place in kept]
            axes.plot(range(1, len(kept) + 1), heights, color=colour, label=name, **_markers(len(kept)))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        _finish(axes, len(kept), "SQNR, dB")

    return draw("SQNR of each layer's output, dB", "Higher is better. The table of layers has the numbers.", plot)


def weight_scales_chart(layers: Sequence[Layer]) -> Chart | None:
    """Return the per-tensor scales of weights by layer, and the range of those of activations."""
    known = [layer for layer in layers if layer.weight_scale and layer.weight_scale > 0]
    if not known:
        return None
    places = list(range(1, len(known) + 1))
    runs = [(place, layer.activation_scales) for place, layer in enumerate(known, 1) if layer.activation_scales]

    def plot(axes: Axes) -> None:
        axes.set_yscale("log")
        weights = _numbers(layer.weight_scale for layer in known)
        axes.plot(places, weights, color=_SERIES[0], label="weight", **_markers(len(known)))
        if runs:
            where = [place for place, _ in runs]
            axes.vlines(where, [r.low for _, r in runs], [r.high for _, r in runs], color=_SERIES[1], linewidth=1)
            medians = [run.median for _, run in runs]
            axes.plot(where, medians, color=_SERIES[1], label="activation, at run time", **_markers(len(known)))
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        _finish(axes, len(known), "per-tensor scale")

    return draw(
        "Per-tensor scales by layer",
        "Logarithmic. A line spans the scales of an activation that were computed; the dot is their median.",
        plot,
    )


def block_scales_chart(layers: Sequence[Layer]) -> Chart | None:
    """Return where the block scales of each layer's weight and activation lie."""
    known = [layer for layer in layers if layer.weight_blocks is not None]
    if not known:
        return None

    def plot(axes: Axes) -> None:
        axes.set_yscale("log", base=2)
        sides = [("weights", -0.18, [layer.weight_blocks for layer in known])]
        if any(layer.activation_blocks for layer in known):
            sides.append(("activations", 0.18, [layer.activation_blocks for layer in known]))
        for (name, shift, each), colour in zip(sides, _SERIES, strict=False):
            _spans(axes, shift, each, colour, name)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        _finish(axes, len(known), "block scale")

    return draw(
        "Block scales by layer",
        "Thin: from the smallest to the largest; thick: the middle half. 448 is the largest e4m3 number; "
        "below 2⁻⁶ bits are lost.",
        plot,
    )


def _spans(axes: Axes, shift: float, scales: Sequence[Scales | None], colour: str, label: str) -> None:
    kept = [(place + shift, each) for place, each in enumerate(scales, 1) if each is not None and each.low > 0]
    where = [place for place, _ in kept]
    axes.vlines(where, [s.low for _, s in kept], [s.high for _, s in kept], color=colour, linewidth=0.8)
    axes.vlines(
        where,
        [max(s.quartiles[0], s.low) for _, s in kept],
        [max(s.quartiles[2], s.low) for _, s in kept],
        color=colour,
        linewidth=3 if len(kept) <= _FEW else 1.6,
        label=label,
    )
