"""What a tap is called: by its layer, and which call of it in a forward."""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """One call of a layer; a layer that a forward calls twice has two."""

    layer: str
    """The layer's qualified name in the torch module."""
    number: int = 1
    """Counts the calls of this layer, from 1."""

    @property
    def key(self) -> str:
        """The layer's name, with `@2` and so on behind it from its second call on."""
        return self.layer if self.number == 1 else f"{self.layer}@{self.number}"


def input_tap(call: Call) -> str:
    """Return the name of what enters a layer, among the outputs of a tapped model."""
    return f"{call.key}:input"


def output_tap(call: Call) -> str:
    """Return the name of what leaves a layer, among the outputs of a tapped model."""
    return f"{call.key}:output"
