"""`package.module:name`: importing what a user's option names, and calling it."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import FactoryImportError, InputSpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Let modules beside the user be imported, as `python -m` does; undone afterwards."""
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def call_factory(spec: str, *, option: str) -> Any:
    """Import `package.module:name`, call it without arguments, and return what it returns.

    Args:
        spec: the option's value; `name` may have dots.
        option: the option, for errors, such as `--model`.

    Raises:
        InputSpecError: `spec` does not follow its syntax.
        FactoryImportError: it cannot be imported, is not callable, or raised.
    """
    with current_directory_importable():
        function = find_callable(spec, option=option)
        try:
            return function()
        except Exception as error:
            raise FactoryImportError(
                f"{option} {spec}: calling it raised {first_line(error)}",
                "it is called without arguments: give its parameters defaults, and try it by itself",
            ) from error


def find_callable(spec: str, *, option: str) -> Callable[..., Any]:
    """Import what `package.module:name` names.

    Raises:
        InputSpecError, FactoryImportError: see `call_factory`.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not all(part.isidentifier() for part in f"{module_name}.{name}".split(".")):
        raise InputSpecError(
            f"{option} {spec!r} is not `package.module:function`",
            f"name a function that takes no arguments, such as `{option} my_models.encoder:build`",
        )
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise FactoryImportError(
            f"{option} {spec}: importing {module_name} raised {first_line(error)}",
            f"check that `python -c 'import {module_name}'` works in this folder ({Path.cwd()})",
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise FactoryImportError(
                f"{option} {spec}: {module_name} has no {name!r}",
                f"it has: {', '.join(_callables(found)) or 'nothing callable'}",
            )
        found = getattr(found, part)
    if not callable(found):
        raise FactoryImportError(
            f"{option} {spec}: it is {_article(found)}, which cannot be called", "name a function or a class"
        )
    return found  # type: ignore[no-any-return]


def _callables(owner: Any) -> list[str]:
    home = getattr(owner, "__name__", "")
    own = [k for k, v in vars(owner).items() if callable(v) and getattr(v, "__module__", None) == home]
    return [name for name in own if not name.startswith("_")][:8]


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
