"""What `compare --per-layer` prints, beside what `results` says of `compare`."""

from typing import Literal

from pydantic import ConfigDict
from typing_extensions import TypedDict

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""Of every type here and in `results`: unknown keys are refused."""


class TapMetrics(TypedDict):
    """One tensor against another; null where one holds NaN."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    sqnr_db: float | None
    cosine: float | None
    max_abs_error: float | None


class LayerAgreement(TypedDict):
    """A backend against the quantized torch model, both given the same."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    between: TapMetrics | None
    layer: TapMetrics
    stored: list[str]


class BackendLayer(TypedDict):
    """One layer in one backend against the float model; see docs/compare.md."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    own: TapMetrics | None
    inherited: TapMetrics
    input: TapMetrics
    output: TapMetrics
    agreement: LayerAgreement | None


class ComparedLayer(TypedDict):
    """One call of a quantized layer."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    position: int
    backends: dict[str, BackendLayer]


class FirstDisagreement(TypedDict):
    """Where the quantized torch model and a backend part first."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    backend: str
    layer: str
    where: Literal["layer", "between", "outputs"]
    sqnr_db: float | None
    stored: list[str]


class FirstNonfinite(TypedDict):
    """Where NaN or infinity arose first in one backend."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    backend: str
    batch: int
    kind: Literal["nan", "infinity"]
    where: Literal["layer", "between", "inputs", "outputs"]
    name: str


class PerLayer(TypedDict):
    """A comparison layer by layer, the worst first."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    bound_db: float
    other_inputs: bool
    """Whether the recipe looked at inputs, and these are others than those of the export."""
    disagreement: FirstDisagreement | None
    nonfinite: list[FirstNonfinite]
    layers: list[ComparedLayer]
