"""From a report's data to one page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nvfp4_trt.errors import DependencyMissingError
from nvfp4_trt.recipe import as_mapping
from nvfp4_trt.reporting import difference, planned, summary, text
from nvfp4_trt.reporting.data import EXPONENTS, GRID
from nvfp4_trt.reporting.stored import DATA_ID

if TYPE_CHECKING:
    from jinja2 import Environment

    from nvfp4_trt.reporting.data import Report

_PAGE = Path(__file__).with_name("page")
_BUNDLE = "itables/html/dt_bundle.js"
_EXPORTS = re.compile(r"export\{([^}]*)\};?")


def check_packages() -> None:
    """Refuse to make a page without the packages that it takes, before the work that it would show.

    Raises:
        DependencyMissingError: one of them is not installed.
    """
    for name in ("jinja2", "matplotlib", "itables"):
        try:
            distribution(name)
        except PackageNotFoundError as error:
            raise DependencyMissingError(
                f"the report needs {name}, which is not installed", "pip install 'nvfp4-trt[report]'"
            ) from error


def render(report: Report) -> str:
    """Return the page of a report; the same report gives the same page.

    Raises:
        DependencyMissingError: a package that it takes is not installed.
    """
    from nvfp4_trt.reporting import charts

    check_packages()
    shown = [layer for layer in report.layers if layer.weights is not None]
    worst = summary.worst_layer(shown)
    engine = report.engine
    return _page(
        "report.html",
        report.model_dump(mode="json"),
        report=report,
        figures=summary.figures(report),
        shown=shown,
        chosen=worst if worst is not None else next(iter(shown), None),
        times=_times(report),
        bounds=_bounds(report),
        predicted=[] if report.plan is None else planned.engines_of(report.plan, engine),
        planned_rows=() if report.plan is None else planned.ours(report.plan).rows,
        most={
            "bytes": max((layer.bytes for layer in report.layers if layer.kind), default=0),
            "layer_time": max((layer.microseconds or 0 for layer in report.layers), default=0),
            "kernel_time": max((kernel.microseconds for kernel in engine.kernels), default=0) if engine else 0,
        },
        missing={each.section: each for each in report.missing},
        recipe_yaml=yaml.safe_dump(as_mapping(report.recipe), sort_keys=True),
        errors_chart=charts.errors_chart(report.layers),
        scale_charts=[
            chart
            for chart in (charts.weight_scales_chart(report.layers), charts.block_scales_chart(report.layers))
            if chart is not None
        ],
    )


def _times(report: Report) -> list[Any]:
    """Return the modelled time by what kernels do: of the engine, or else of the plan."""
    if report.engine is not None:
        return list(summary.time_by_kind(report.engine))
    return [] if report.plan is None else list(planned.time_by_kind(report.plan))


def _bounds(report: Report) -> dict[str, float]:
    if report.engine is not None:
        return summary.time_by_bound(report.engine)
    if report.plan is None:
        return {}
    found = planned.ours(report.plan).bounds
    return {name: time for name, time in sorted(found.items(), key=lambda item: -item[1]) if time}


def render_pair(first: Report, second: Report) -> str:
    """Return the page of two reports side by side.

    Raises:
        DependencyMissingError: a package that it takes is not installed.
    """
    from nvfp4_trt.reporting import charts

    check_packages()
    both = difference.layers_of_both(first, second)
    times, parts = difference.time_of_both(first, second), difference.bytes_of_both(first, second)
    alike = first.name == second.name
    return _page(
        "pair.html",
        {"report": first.model_dump(mode="json"), "other": second.model_dump(mode="json")},
        first=first,
        second=second,
        names=[f"{each.name} ({place})" if alike else each.name for place, each in enumerate((first, second), 1)],
        lines=difference.lines(first, second),
        layers=both,
        has_errors=any(layer.error for each in (first, second) for layer in each.layers),
        bytes=parts,
        times=times,
        most={
            "bytes": max((max(part.first or 0, part.second or 0) for part in parts), default=0),
            "times": max((max(part.first or 0, part.second or 0) for part in times), default=0),
        },
        recipe=difference.recipe_differences(first, second),
        errors_chart=charts.pair_chart(both),
    )


def _page(template: str, data: dict[str, Any], **values: Any) -> str:
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    script = _bundle() + (_PAGE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            data=htmlsafe_json_dumps(data, allow_nan=False, separators=(",", ":")),
            data_id=DATA_ID,
            script=Markup(script),  # noqa: S704 (ours, and itables')
            digest=digest,
            style=Markup((_PAGE / "page.css").read_text(encoding="utf-8")),  # noqa: S704
            grid=GRID,
            exponents=EXPONENTS,
            precisions=summary.PRECISIONS,
            text=text,
            **values,
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _bundle() -> str:
    """Return DataTables with jQuery, as `itables` brings them, for a script that goes on behind them.

    Raises:
        DependencyMissingError: this version of itables does not bring them as it did.
    """
    file = Path(str(distribution("itables").locate_file(_BUNDLE)))
    code = file.read_text(encoding="utf-8") if file.is_file() else ""
    exports = _EXPORTS.search(code)
    name = None if exports is None else re.search(r"([\w$]+) as jQuery\b", exports[1])
    if exports is None or name is None or "</script" in code:
        raise DependencyMissingError(
            "the installed itables does not bring DataTables as it did", "pip install 'itables>=2.9,<3'"
        )
    return f"{code[: exports.start()]}const jQueryOfPage={name[1]};{code[exports.end() :]}\n"
