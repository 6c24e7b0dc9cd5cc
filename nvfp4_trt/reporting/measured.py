"""What running a model told, as the report has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvfp4_trt.reporting.data import Codes, Error, Output, Run, Scales


@dataclass(frozen=True)
class Measured:
    """Errors against the float model, and what entered the layers; all empty where nothing was run."""

    reference: str = ""
    batches: int = 0
    inputs_from: str = ""
    input_options: tuple[str, ...] = ()
    """Those of the command line that give the inputs; none where they were in memory."""
    inputs_random: bool = False
    outputs: tuple[Output, ...] = ()
    errors: Mapping[str, Error] = field(default_factory=dict)
    """By layer."""
    activations: Mapping[str, tuple[Codes, Scales, Run | None]] = field(default_factory=dict)
    """By layer."""
