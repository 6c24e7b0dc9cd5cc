"""What each error code means, from the data beside this file (`explanations.toml`)."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from nvfp4_trt import errors
from nvfp4_trt.errors import Nvfp4Error, UnknownCodeError

_SHOWN = 3


@dataclass(frozen=True)
class Explanation:
    """One error code, for whoever met it. Texts are Markdown; links in them are relative to `docs/`."""

    code: str
    exit_status: int
    what: str
    """What happened, in a line."""
    remedy: str
    """What to do, in a line."""
    means: str
    """What the code says of the model, the file or the machine."""
    causes: tuple[str, ...]
    """Likely ones, the likeliest first."""
    example: tuple[str, ...]
    """A command or a line of Python, and the message that it ends with."""

    def as_row(self) -> str:
        """Return the row of `docs/errors.md`."""
        return f"| `{self.code}` | {self.exit_status} | {self.what} | {self.remedy} |"

    def as_dict(self) -> dict[str, Any]:
        """Return what `explain --json` prints."""
        return {
            "code": self.code,
            "exit_status": self.exit_status,
            "what": self.what,
            "remedy": self.remedy,
            "means": self.means,
            "causes": list(self.causes),
            "example": list(self.example),
        }


@cache
def explanations() -> dict[str, Explanation]:
    """Return every code's explanation, in the order of the data.

    Raises:
        KeyError: a code of `nvfp4_trt.errors` has no explanation, or a text is missing: a defect.
    """
    statuses = {
        kind.code: kind.exit_status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Nvfp4Error) and kind is not Nvfp4Error
    }
    told = tomllib.loads(files("nvfp4_trt").joinpath("explanations.toml").read_text(encoding="utf-8"))
    if missing := statuses.keys() - told.keys():
        raise KeyError(f"explanations.toml lacks {', '.join(sorted(missing))}")
    return {
        code: Explanation(
            code=code,
            exit_status=statuses[code] if code in statuses else said["status"],
            what=said["what"],
            remedy=said["do"],
            means=said["means"],
            causes=tuple(said["causes"]),
            example=tuple(said["example"].strip().splitlines()),
        )
        for code, said in told.items()
    }


def explain(code: str) -> Explanation:
    """Return what an error code means.

    Args:
        code: as printed, `fp4-lost` or `error[fp4-lost]`.

    Raises:
        UnknownCodeError: no error has it; the hint names the nearest codes.
    """
    known = explanations()
    plain = code.strip().lower().removeprefix("error[").rstrip(":").removesuffix("]").replace("_", "-")
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, n=_SHOWN, cutoff=0.4)
    raise UnknownCodeError(
        f"no error has the code {code!r}",
        f"the nearest: {', '.join(near)}" if near else "nvfp4-trt explain lists all codes",
    )
