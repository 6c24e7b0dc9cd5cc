"""English texts that are on every machine with scikit-learn: what its classes and functions say of themselves.

Each gives a pair: its summary, and the first paragraph of its description. A description is to be found from its
summary, among all others.
"""

from __future__ import annotations

import inspect
import random
import re
import warnings
from typing import NamedTuple

SEED = 20
SHORTEST = 20
"""Characters: below this a paragraph says nothing that it could be found by."""
NO_PROSE = ("..", "Read more", ":", ">>>", "-", "*")


class Pair(NamedTuple):
    """A summary, and the paragraph after it."""

    summary: str
    description: str


def pairs() -> list[Pair]:
    """Return all pairs, shuffled by a fixed seed; summaries and descriptions are all different."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn.utils.discovery import all_estimators, all_functions

        documented = [thing for _, thing in (*all_estimators(), *all_functions())]
    found: list[Pair] = []
    seen: set[str] = set()
    for thing in documented:
        pair = _pair(inspect.getdoc(thing) or "")
        if pair is not None and not seen.intersection(pair):
            found.append(pair)
            seen.update(pair)
    random.Random(SEED).shuffle(found)  # noqa: S311 (no secret)
    return found


def _pair(text: str) -> Pair | None:
    head = text.split("\nParameters\n", maxsplit=1)[0]
    paragraphs = [re.sub(r"\s+", " ", paragraph).strip() for paragraph in head.split("\n\n")]
    prose = [p for p in paragraphs if len(p) > SHORTEST and not p.startswith(NO_PROSE)]
    return Pair(*prose[:2]) if len(prose) >= 2 else None
