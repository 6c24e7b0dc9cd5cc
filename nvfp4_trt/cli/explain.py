"""`nvfp4-trt explain [CODE]`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from nvfp4_trt.cli.completing import complete_code
from nvfp4_trt.cli.output import output_options, print_result
from nvfp4_trt.explanations import explain as explained
from nvfp4_trt.explanations import explanations

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.explanations import Explanation

_LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")


@click.command()
@click.argument("code", required=False, shell_complete=complete_code)
@output_options
def explain(
    code: str | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Tell what an error CODE means, what causes it and what to do; without one, list all codes.

    Example: nvfp4-trt explain fp4-lost
    """
    if code is None:
        known = list(explanations().values())
        print_result({"codes": [each.as_dict() for each in known]}, as_json=as_json, people=lambda: [_all(known)])
        return
    found = explained(code)
    print_result(found.as_dict(), as_json=as_json, people=lambda: _one(found))


def _all(known: list[Explanation]) -> RenderableType:
    from nvfp4_trt.printing.tables import table

    return table(
        "Errors",
        ("code", "#exit status", "what happened"),
        [(each.code, each.exit_status, _plain(each.what)) for each in known],
    )


def _one(found: Explanation) -> list[RenderableType]:
    from rich.markup import escape

    lines = [
        f"{found.code} (exit status {found.exit_status}): {_plain(found.what)}",
        "",
        _plain(found.means),
        "",
        "Likely causes:",
        *(f"  - {_plain(cause)}" for cause in found.causes),
        "",
        f"What to do: {_plain(found.remedy)}",
        "",
        "Example:",
        *(f"    {line}" for line in found.example),
    ]
    return [escape(line) for line in lines]


def _plain(text: str) -> str:
    """Return Markdown as a terminal shows it: links as the paths of their pages."""
    return _LINK.sub(r"docs/\1", text)
