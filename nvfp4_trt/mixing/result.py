"""What a sensitivity run found: the damage of each layer, and the recipe that meets a budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nvfp4_trt.recipe import Recipe


@dataclass(frozen=True)
class LayerDamage:
    """What quantizing one layer, and no other, does to the model's output.

    Attributes:
        name: the layer.
        shape: `(N, K)` of its weight.
        sqnr_db: of the output with this layer alone quantized, dB; of several outputs, the lowest one's. Of an
            estimate, that of all outputs together.
        share: of the noise that all layers make one by one, between 0 and 1.
    """

    name: str
    shape: tuple[int, ...]
    sqnr_db: float
    share: float


@dataclass(frozen=True)
class Found:
    """A recipe that meets a budget.

    Attributes:
        recipe: which keeps the layers.
        kept: the layers kept in higher precision, the most damaging first.
        keep: `fp8` or `model`, what they are kept in.
        budget: as it was asked for.
        value: what the recipe's model came to, in the budget's unit.
        tried: how many mixtures of precisions were run.
    """

    recipe: Recipe
    kept: tuple[str, ...]
    keep: str
    budget: str
    value: float
    tried: int


@dataclass(frozen=True)
class Sensitivity:
    """The layers of a model by the damage that quantizing each does, the worst first.

    Attributes:
        layers: sorted by `sqnr_db`, ascending; equal ones by their order in the model.
        sqnr_db: of the output with all of them quantized.
        recipe: the recipe's name.
        method: `exact` or `estimate`.
        batches: how many were run.
        seconds: wall time.
        found: the recipe for a budget, where one was given.
    """

    layers: tuple[LayerDamage, ...]
    sqnr_db: float
    recipe: str
    method: str
    batches: int
    seconds: float
    found: Found | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the `--json` object."""
        told = asdict(self) | {"layers": [asdict(layer) | {"shape": list(layer.shape)} for layer in self.layers]}
        if self.found is not None:
            told["found"] |= {"recipe": self.found.recipe.model_dump(mode="json"), "kept": list(self.found.kept)}
        return told
