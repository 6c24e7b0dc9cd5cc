"""Layer patterns: shell globs over qualified layer names, and an error for one that matches nothing."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from nvfp4_trt.errors import PatternMatchesNothingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def matching(names: Iterable[str], patterns: Sequence[str], *, option: str) -> set[str]:
    """Return the names that any pattern matches; `*` also crosses dots, as in `encoder.*.query`.

    Args:
        names: qualified layer names.
        patterns: shell globs (`fnmatch`), case-sensitive.
        option: the option that carried the patterns, for the error.

    Raises:
        PatternMatchesNothingError: a pattern matches no name; the hint names the nearest one.
    """
    known = list(names)
    found: set[str] = set()
    for pattern in patterns:
        hits = {name for name in known if fnmatchcase(name, pattern)}
        if not hits:
            raise PatternMatchesNothingError(
                f"{option} {pattern!r} matches none of the {len(known)} layers", _nearest(pattern, known)
            )
        found |= hits
    return found


def _nearest(pattern: str, names: list[str]) -> str:
    if not names:
        return "the model has no layer to match"
    plain = pattern.replace("*", "")
    near = max(names, key=lambda name: difflib.SequenceMatcher(None, plain, name).ratio())
    example = "*." + near.rsplit(".", 1)[-1]
    return f"the nearest layer is {near!r}; patterns are shell globs over whole names, such as {example!r}"
