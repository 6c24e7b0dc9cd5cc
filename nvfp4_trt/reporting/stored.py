"""A report read back: from its JSON, or from the page that carries it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from pydantic import ValidationError

from nvfp4_trt.errors import FileMissingError, ReportInvalidError
from nvfp4_trt.reporting.data import Report

if TYPE_CHECKING:
    from pathlib import Path

DATA_ID = "report-data"
"""The element of the page that holds the JSON."""
_SUFFIXES = {".json", ".html", ".htm"}


def is_stored(path: Path) -> bool:
    """Return whether a path is that of a report, by its name."""
    return path.suffix.lower() in _SUFFIXES


class _Finder(HTMLParser):
    """Collects the text of the script that holds the data."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self._inside = False
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" and dict(attrs).get("id") == DATA_ID:
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.text += data


def read_report(path: Path) -> Report:
    """Read a report's data from what `report --json` printed or from a page.

    Raises:
        FileMissingError: there is no such file.
        ReportInvalidError: it holds no report, that of two models, or one of another version.
    """
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist", "make it with `nvfp4-trt report`")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            finder = _Finder()
            finder.feed(text)
            text = finder.text
        told = json.loads(text)
        if isinstance(told, dict) and "report" in told and told.get("other") is None:
            told = told["report"]
        return Report.model_validate(told)
    except (ValidationError, UnicodeDecodeError, ValueError) as error:
        raise ReportInvalidError(
            f"{path} holds no report of one model, or of another version",
            "give the page or the JSON that `nvfp4-trt report MODEL` made, or the .onnx file itself",
        ) from error
