"""What a comparison layer by layer found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import BackendsDisagreeError

if TYPE_CHECKING:
    from nvfp4_trt.comparison.result import OutputMetrics


def as_json(metrics: OutputMetrics) -> dict[str, float | None]:
    """Return metrics as strict JSON takes them, without the name: NaN becomes None."""
    numbers = asdict(metrics)
    del numbers["name"]
    return {key: None if math.isnan(value) else value for key, value in numbers.items()}


_OTHER_INPUTS = (
    "give what the file was exported with: the same --inputs, its --calibration, or the quantized model "
    "(`nvfp4_trt.save` writes it) with --quantized, which goes with any inputs"
)


@dataclass(frozen=True)
class Agreement:
    """How near a backend is at one layer to torch's quantized model, which computes the same.

    Attributes:
        between: of what enters the layer, where all layers before it are given torch's outputs; None of a backend
            that only runs as a whole, and where some layers only were looked at.
        layer: of what leaves it, where both are given one input.
        stored: what differs between the file's bytes and the module's, such as `weight_packed: 1 of 4096 bytes`.
    """

    between: OutputMetrics | None
    layer: OutputMetrics
    stored: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as strict JSON takes it."""
        between = None if self.between is None else as_json(self.between)
        return {"between": between, "layer": as_json(self.layer), "stored": list(self.stored)}


@dataclass(frozen=True)
class BackendMetrics:
    """One layer in one backend, against the float model; each over all batches.

    Attributes:
        own: what the layer adds: the backend's layer on the float model's input, against the float output; None of
            a backend that only runs as a whole.
        inherited: what enters with the input: the float layer on the backend's input, against the float output.
        input: what enters the layer, against what enters it in the float model.
        output: what leaves it, against what leaves it there: what was inherited and what was added.
        agreement: with torch's quantized model; None of that itself.
    """

    own: OutputMetrics | None
    inherited: OutputMetrics
    input: OutputMetrics
    output: OutputMetrics
    agreement: Agreement | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return them as strict JSON takes them."""
        return {
            "own": None if self.own is None else as_json(self.own),
            **{name: as_json(getattr(self, name)) for name in ("inherited", "input", "output")},
            "agreement": None if self.agreement is None else self.agreement.as_dict(),
        }


@dataclass(frozen=True)
class LayerMetrics:
    """One call of a layer.

    Attributes:
        name: the layer's, with `@2` behind it for its second call.
        position: in the order of execution, from 0.
        backends: by name: `torch`; `onnxruntime`, `lowered` and `engine` where these have the layer.
    """

    name: str
    position: int
    backends: dict[str, BackendMetrics]

    @property
    def worst_own(self) -> float:
        """The lowest SQNR of what a backend adds, dB; -inf where it is NaN."""
        found = [each.own.sqnr_db for each in self.backends.values() if each.own is not None]
        return min(-math.inf if math.isnan(value) else value for value in found)

    def as_dict(self) -> dict[str, Any]:
        """Return it as strict JSON takes it."""
        return {
            "name": self.name,
            "position": self.position,
            "backends": {name: each.as_dict() for name, each in self.backends.items()},
        }


@dataclass(frozen=True)
class Disagreement:
    """The first place, in the order of execution, where torch's quantized model and a backend are apart.

    Attributes:
        backend: which one; the file, `onnxruntime`, is looked at first.
        layer: the layer; for `outputs`, the model's output.
        where: `layer`: given one input, the two have different outputs, or they store different bytes. `between`:
            what enters the layer differs, though all layers before it were given the same outputs. `outputs`: a
            model's output does, likewise.
        sqnr_db: of the one to the other, dB; None where it is NaN.
        stored: see `Agreement`.
    """

    backend: str
    layer: str
    where: str
    sqnr_db: float | None
    stored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nonfinite:
    """Where NaN or infinity arose first in one backend.

    Attributes:
        backend: `reference`, `torch` or `onnxruntime`.
        batch: counts from 0.
        kind: `nan` or `infinity`.
        where: `layer`: it entered finite and left otherwise. `between`: it entered the layer so, and what left all
            layers before was finite. `inputs`: it was in the input of that name. `outputs`: in that output only.
        name: of the layer, input or output.
    """

    backend: str
    batch: int
    kind: str
    where: str
    name: str

    def __str__(self) -> str:
        """Say it."""
        place = {
            "layer": f"in the layer {self.name}",
            "between": f"in front of the layer {self.name}",
            "inputs": f"in the input {self.name}",
            "outputs": f"behind the last layer, in the output {self.name}",
        }[self.where]
        kind = "NaN" if self.kind == "nan" else "an infinity"
        return f"{self.backend}: {kind} arose first {place} (batch {self.batch})"


@dataclass(frozen=True)
class LayerComparison:
    """A comparison layer by layer.

    Attributes:
        layers: the worst first, by what a layer adds by itself.
        bound_db: SQNR that torch's quantized model and the file are to reach on the same input.
        disagreement: the first place where they do not; None where they agree everywhere.
        nonfinite: where NaN or infinity arose, of each backend in which it did.
        other_inputs: whether the file's recipe looked at inputs, or a calibration, and torch's quantized model was
            made on other ones: then the two differ where neither has a fault.
    """

    layers: tuple[LayerMetrics, ...]
    bound_db: float
    disagreement: Disagreement | None
    nonfinite: tuple[Nonfinite, ...] = field(default=())
    other_inputs: bool = False

    def check(self) -> None:
        """Raise where torch's quantized model and the file disagree.

        Raises:
            BackendsDisagreeError: they do; it names the first layer.
        """
        first = self.disagreement
        if first is None:
            return
        places = {"layer": "in", "between": "in front of", "outputs": "behind all layers, in the output"}
        place = f"{places[first.where]} {first.layer}"
        found = "NaN" if first.sqnr_db is None else f"{first.sqnr_db:.1f} dB"
        stored = f"; stored otherwise: {', '.join(first.stored)}" if first.stored else ""
        own = "".join(
            f"; {name} is at {each.own.sqnr_db:.1f} dB from the float layer"
            for layer in self.layers
            if layer.name == first.layer and first.where == "layer"
            for name, each in layer.backends.items()
            if each.own is not None
        )
        what = {"onnxruntime": "the file", "lowered": "the lowered file"}.get(
            first.backend, f"the {first.backend}"
        )
        because = (
            "; no fault need be there: the file's recipe looks at inputs, and it was exported on other inputs, or "
            "with another calibration, than the torch model was quantized on here"
            if self.other_inputs
            else ""
        )
        raise BackendsDisagreeError(
            f"the quantized torch model and {what} part first {place}: {found} on one input, "
            f"where {self.bound_db:g} were to be reached{stored}{own}{because}",
            _OTHER_INPUTS
            if self.other_inputs
            else "export it again; a checkpoint of the model that was exported goes with --quantized",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as strict JSON takes it."""
        first = self.disagreement
        return {
            "bound_db": self.bound_db,
            "other_inputs": self.other_inputs,
            "disagreement": None if first is None else asdict(first) | {"stored": list(first.stored)},
            "nonfinite": [asdict(each) for each in self.nonfinite],
            "layers": [each.as_dict() for each in self.layers],
        }
