"""What commands print, one type each; engines are in `engines`."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from nvfp4_trt.calibration.result import LayerCalibration
from nvfp4_trt.printing.schemas.layers import STRICT, PerLayer
from nvfp4_trt.recipe import Recipe
from nvfp4_trt.reporting import Report


class Error(TypedDict):
    """How a command failed, see docs/errors.md."""

    __pydantic_config__ = STRICT  # type: ignore[misc] # pydantic reads it off a TypedDict

    code: str
    """Stable: scripts match on it."""
    message: str
    hint: str


class Failure(TypedDict):
    """A command that failed."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    error: Error


class Verdict(TypedDict):
    """What becomes of one layer."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    kind: str
    shape: list[int | str]
    precision: str
    """`nvfp4` where its GEMM will be FP4; else what it will be, or `refused`."""
    code: str
    """The rule that decided; empty where there is nothing to say."""
    severity: str
    reason: str
    remedy: str
    node: str
    """Name of the ONNX node; empty for a module."""


class Check(TypedDict):
    """Which layers will be FP4."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    source: str
    quantized: bool
    traced: bool
    """Whether products of activations have rows: false of a PyTorch model without example inputs."""
    counts: dict[str, int]
    layers: list[Verdict]


class Layer(TypedDict):
    """One layer of a portable file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    kind: str
    shape: list[int]
    precision: str
    reason: str


class Export(TypedDict):
    """A portable ONNX file that was written."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    onnx: str
    recipe: str
    layers: list[Layer]
    random_inputs: bool
    onnx_bytes: int
    source_sha256: str


class Calibrate(TypedDict):
    """Static scales that were found."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    calibration: str
    source_kind: str
    source_sha256: str
    recipe: Recipe
    layers: list[LayerCalibration]


class Pack(TypedDict):
    """A safetensors file of packed weights."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    safetensors: str
    weights: list[str]
    copied: int
    source_bytes: int
    bytes: int


Convert = TypedDict(
    "Convert",
    {"checkpoint": str, "from": str, "to": str, "weights": list[str], "copied": int, "bytes": int},
)
"""A checkpoint in another format. (`from` is a keyword of Python.)"""
Convert.__pydantic_config__ = STRICT  # type: ignore[attr-defined]


class Cubin(TypedDict):
    """One compiled kernel."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    file: str
    sha256: str
    registers: int
    local_bytes: int
    fp4_opcode: str | None
    """The FP4 instruction of a GEMM; null of kernels that multiply nothing."""


class KernelPack(TypedDict):
    """The plugin's kernels, compiled."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    pack: str
    bytes: int
    sms: list[int]
    compilers: dict[str, str]
    cubins: list[Cubin]


class ScaledLayer(Layer):
    """A layer with its scales, where it has some."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    weight_scale: NotRequired[float | None]
    """null where it is no finite number: the reason says so."""
    activation_scale: NotRequired[str]
    bytes: NotRequired[int]


class Value(TypedDict):
    """An input or output."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    dtype: str
    shape: list[int | str]


class Portable(TypedDict):
    """A portable ONNX file, read."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    kind: Literal["onnx"]
    onnx: str
    onnx_bytes: int
    recipe: Recipe
    scale_rule: str
    source_sha256: str
    versions: dict[str, str]
    inputs: list[Value]
    outputs: list[Value]
    layers: list[ScaledLayer]


class Metrics(TypedDict):
    """One output; null where it holds NaN."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    sqnr_db: float | None
    cosine: float | None
    max_abs_error: float | None


class Compare(TypedDict):
    """A file's outputs against a reference's."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    reference: str
    model: str
    batches: int
    outputs: list[Metrics]
    dtypes: dict[str, tuple[str, str]]
    """Of outputs whose dtypes differ: in the reference, and in the file."""
    per_layer: NotRequired[PerLayer]
    """With `--per-layer`."""
    error: NotRequired[Error]
    """Where a threshold was missed, or two backends disagree."""


class Figures(TypedDict):
    """One array that went into an engine or came out of it; figures are of its finite values, null without any."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    dtype: str
    shape: list[int]
    min: float | None
    max: float | None
    mean: float | None
    not_finite: int


class Run(TypedDict):
    """One run of an engine."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    engine: str
    gpu: str
    drawn: bool
    """Whether the inputs were drawn, so that the outputs mean nothing."""
    inputs: list[Figures]
    outputs: list[Figures]


class Damage(TypedDict):
    """What quantizing one layer alone does to the output."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    shape: list[int]
    sqnr_db: float
    share: float


class Found(TypedDict):
    """The recipe that meets a budget."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    recipe: Recipe
    kept: list[str]
    keep: Literal["fp8", "model"]
    budget: str
    value: float
    tried: int


class Sensitivity(TypedDict):
    """Layers by the damage that quantizing each does, the worst first."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    layers: list[Damage]
    sqnr_db: float
    recipe: str
    method: Literal["exact", "estimate"]
    batches: int
    seconds: float
    found: Found | None
    recipe_file: NotRequired[str]
    plot: NotRequired[str]


class Lower(TypedDict):
    """TensorRT's form of a portable file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    onnx: str
    passes: dict[str, int]
    gemms: int
    plugin_gemms: int


class Reported(TypedDict):
    """A page, and the data behind it."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    html: str
    """The page."""
    report: Report
    other: NotRequired[Report]
    """Where two were compared."""


class Recipes(TypedDict):
    """The built-in recipes."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    default: str
    recipes: list[Recipe]


class Gpu(TypedDict):
    """One GPU of this machine."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    architecture: str
    memory_mib: int


class Software(TypedDict):
    """One package or program."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: str
    version: str
    purpose: str
    install: str
    trouble: str
    works: bool


class Target(TypedDict):
    """One backend's engines for one architecture."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    architecture: str
    backend: str
    builds: bool
    runs: bool
    reason: str


class Doctor(TypedDict):
    """What this machine has, and what it can build and run."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    python: str
    system: str
    driver: str
    gpu_trouble: str
    gpus: list[Gpu]
    software: list[Software]
    targets: list[Target]


class Explain(TypedDict):
    """What one error code means."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    code: str
    exit_status: int
    what: str
    remedy: str
    means: str
    causes: list[str]
    example: list[str]


class ExplainAll(TypedDict):
    """Every error code."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    codes: list[Explain]


class Completion(TypedDict):
    """The script that a shell evaluates."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    shell: Literal["bash", "zsh", "fish"]
    script: str
