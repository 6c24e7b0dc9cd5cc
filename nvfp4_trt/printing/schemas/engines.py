"""What is printed of engines and of serving sets."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from nvfp4_trt.building.candidate import Candidate
from nvfp4_trt.costing import BuilderMemory
from nvfp4_trt.printing.schemas.layers import STRICT
from nvfp4_trt.serving.manifest import BucketEntry, DynamicEntry, ModelEntry, Tensor


class Counts(TypedDict):
    """How many layers were to have a precision, and how many have it by the engine's own record."""

    __pydantic_config__ = STRICT  # type: ignore[misc] # pydantic reads it off a TypedDict

    requested: int
    realized: int


class Cost(TypedDict, total=False):
    """What one run costs, its time modelled; empty of engines that an early version built."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    gpu: str
    kernels: int
    waits: int
    bytes: int
    microseconds_modelled: float
    unresolved: int


class EngineLayer(TypedDict):
    """One layer that was to be FP4 or FP8."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    shape: list[int]
    """(N, K) of its weight."""
    requested: str
    realized: bool
    row: str
    """The row of the engine's record that runs its GEMM; empty where none was found."""
    scale_row: str
    """The row that computes its activation's scale at run time; empty where the scale is constant."""
    accepted: bool
    """Whether a shortfall was accepted by name."""
    reason: str
    """Why it is not realized."""
    weight_scale: NotRequired[float | None]
    """null where it is no finite number: the reason says so."""
    activation_scale: NotRequired[str]
    bytes: NotRequired[int]


class _EngineFields(TypedDict):
    engine: str
    record: str
    backend: str
    version: str
    targets: list[str]
    fp4: Counts
    fp4_weights: Counts
    fp8: Counts
    fp8_weights: Counts
    kernels: int
    engine_bytes: int
    weight_bytes: int
    """Of codes and block scales that the engine holds for NVFP4 layers, padding included."""
    floor_bytes: int
    """0.5625 bytes for each of their parameters."""
    seconds: float
    """Wall time of the build."""
    passes: dict[str, int]
    """Lowering pass → how many places it changed."""
    form: str
    loosened: str
    padded: bool
    optimize: str
    candidates: list[Candidate]
    over: bool
    cost: Cost
    memory: BuilderMemory | None
    trtexec: str
    profile: dict[str, list[list[int]]]
    """Input → smallest, preferred and largest shape."""
    layers: list[EngineLayer]


class Engine(_EngineFields):
    """An engine that was built."""

    __pydantic_config__ = STRICT  # type: ignore[misc]


class InspectedEngine(_EngineFields):
    """An engine, read through its record."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    kind: Literal["engine"]


class ServingSet(TypedDict):
    """A folder of engines, one for each of several fixed shapes."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    kind: Literal["serving-set"]
    folder: str
    engines_bytes: int
    format_version: int
    model: ModelEntry
    backend: str
    version: str
    targets: list[str]
    gpu: str
    plugin: str
    dims: list[str]
    batch: str | None
    unmasked: list[str]
    shared_weights: bool
    inputs: list[Tensor]
    outputs: list[Tensor]
    buckets: list[BucketEntry]
    dynamic: DynamicEntry | None
