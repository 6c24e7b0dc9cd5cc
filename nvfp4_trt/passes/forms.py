"""Forms of a lowered graph: what may differ between graphs that mean the same."""

from __future__ import annotations

from typing import Literal

Form = Literal["operator", "blocks"]
"""How activations are quantized, by which TensorRT's compiler decides what it fuses: `operator` is its own
quantizer, `blocks` are the standard operators of `BlockQuantizers`, in a graph whose shapes stay dynamic."""

PLAIN: Form = "operator"
"""What is built where nothing is searched."""
FORMS: tuple[Form, ...] = ("operator", "blocks")
