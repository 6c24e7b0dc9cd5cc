"""Naming what a pickle would call, from its opcodes alone: nothing is executed."""

from __future__ import annotations

import pickletools
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import IO

# Opcodes that come before a pickle's outermost object without being it.
_PREAMBLE = {"PROTO", "FRAME", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT"}
_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}

# What a plain state dict names. Only messages depend on it: what is allowed, torch's unpickler decides.
_PLAIN = re.compile(
    r"collections\.OrderedDict|torch\.\w*Storage|torch\.storage\.\w+|torch\._utils\._rebuild_\w+"
    r"|torch\.nn\.parameter\.Parameter|torch\.(Size|device|Tensor|bool|b?float\w*|u?int\w*|complex\w*)"
)


class PickleNames(NamedTuple):
    """What a pickle names.

    Attributes:
        root: the class or function that makes its outermost object; None for a plain container.
        suspects: every class and function in it that a plain state dict would not name, in order.
    """

    root: str | None
    suspects: tuple[str, ...]


def disassemble(file: IO[bytes]) -> PickleNames:
    """Read opcodes until the end of the first pickle that names a class or function.

    A legacy `torch.save` file opens with three pickles of its own (a magic number, a version, the byte
    order), which name none.

    Raises:
        ValueError: the opcodes are no pickle, or end too early.
    """
    while True:
        root, found = _one_pickle(file)
        if found:
            suspects = tuple(dict.fromkeys(name for name in found if not _PLAIN.fullmatch(name)))
            return PickleNames(root if root in suspects else None, suspects)


def _one_pickle(file: IO[bytes]) -> tuple[str | None, list[str]]:
    texts: list[str] = []
    found: list[str] = []
    root: str | None = None
    rooted = False
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _TEXT:
            texts.append(str(argument))
            continue  # STACK_GLOBAL takes its module and name from the two texts before it
        if opcode.name in {"GLOBAL", "INST"}:
            found.append(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.append(".".join(texts[-2:]))
        if not rooted and opcode.name not in _PREAMBLE:
            rooted, root = True, found[-1] if found else None
    return root, found
