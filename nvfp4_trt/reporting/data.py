"""What a report holds, as data: the JSON behind the page, which also lies inside it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from nvfp4_trt.planning import Plan  # noqa: TC001 (pydantic needs it at run time)
from nvfp4_trt.recipe import Recipe  # noqa: TC001
from nvfp4_trt.timing import Bench  # noqa: TC001

GRID = (-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The values of e2m1; both zeros are one."""

EXPONENTS = tuple(range(-9, 9))
"""The binades of positive e4m3 numbers, from the smallest subnormal, 2^-9, to that of 448."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Codes(_Frozen):
    """How often each e2m1 value occurs."""

    counts: tuple[int, ...]
    """In the order of `GRID`."""
    nan_blocks: int = 0
    """Blocks whose scale is NaN: their codes are counted as zeros."""


class Scales(_Frozen):
    """The distribution of e4m3 block scales."""

    counts: tuple[int, ...]
    """Of positive scales by the exponent of their power of two, in the order of `EXPONENTS`."""
    zeros: int
    largest: int
    """How many are 448, the largest there is."""
    subnormal: int
    """How many positive ones are below 2^-6, where e4m3 loses bits."""
    low: float
    """The smallest positive one, 0 where there is none."""
    quartiles: tuple[float, float, float]
    """25 %, 50 % and 75 % of all."""
    high: float


class Run(_Frozen):
    """The distribution of per-tensor scales that were computed at run time."""

    low: float
    median: float
    high: float
    count: int


class Error(_Frozen):
    """How far a layer's output is from the float model's, and how much of it the layer adds itself."""

    sqnr_db: float | None
    """10 · log10(Σ reference² / Σ (output - reference)²); None where NaN arose."""
    cosine: float | None
    max_abs_error: float | None
    own_sqnr_db: float | None = None
    """Of the layer alone, on the float model's input; None where it was not measured."""


class Layer(_Frozen):
    """One layer that has a weight of two dimensions or more."""

    name: str
    kind: str
    """Class of the module; empty where the file does not say."""
    shape: tuple[int, ...]
    precision: str
    reason: str = ""
    """Why it is neither FP4 nor FP8; empty where it is."""
    parameters: int
    bytes: int
    """Of its tensors in the portable file."""
    weight_scale: float | None = None
    """Per-tensor scale of the weight; of FP8, the largest of its channels'. None where it is not finite."""
    activation_scale: str = ""
    """A number, or where it comes from; empty for layers that are not quantized."""
    realized: bool | None = None
    """Whether the engine's GEMM has the precision asked for; None without an engine."""
    accepted: bool = False
    engine_reason: str = ""
    """Why it is not realized."""
    kernel: str = ""
    """The row of the engine's record that runs its GEMM."""
    microseconds: float | None = None
    """Modelled, of that row; a GEMM of several layers is shared by their parameters."""
    bound: str = ""
    error: Error | None = None
    weights: Codes | None = None
    weight_blocks: Scales | None = None
    activations: Codes | None = None
    activation_blocks: Scales | None = None
    activation_scales: Run | None = None


class Share(_Frozen):
    """A part of the file's bytes."""

    name: str
    tensors: int
    bytes: int


class Kernel(_Frozen):
    """One row of the engine's record, with its modelled cost."""

    name: str
    kind: str
    """What it does, in words; see `reporting.engine.KINDS`."""
    layers: tuple[str, ...]
    """Those whose GEMM it runs."""
    launches: int
    read_bytes: int
    written_bytes: int
    flops: int
    precision: str
    microseconds: float
    bound: str


class Engine(_Frozen):
    """What the engine's record says."""

    file: str
    bytes: int
    backend: str
    version: str
    targets: tuple[str, ...]
    profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    seconds: float
    form: str
    asked: dict[str, tuple[int, int]]
    """Precision → how many layers were asked for, and how many have it."""
    launches: int
    weight_bytes: int
    floor_bytes: int
    activation_bytes: int | None
    """Device memory for activations at the largest shape; None where the builder did not say."""
    gpu: str
    """That the times are modelled on."""
    gpu_title: str
    gpu_source: str
    microseconds: float
    kernels: tuple[Kernel, ...]
    trtexec: str


class Output(_Frozen):
    """One output of the whole model against the float model's."""

    name: str
    sqnr_db: float | None
    cosine: float | None
    max_abs_error: float | None


class Missing(_Frozen):
    """A section that could not be made."""

    section: Literal["engine", "errors", "activations"]
    what: str
    """What was not given, in a sentence."""
    how: str
    """A command that gives it."""


class Report(_Frozen):
    """A whole report."""

    version: Literal[1] = 1
    name: str
    """File name of the model."""
    onnx_bytes: int
    """With its external data."""
    parameters: int
    recipe: Recipe
    scale_rule: str
    source_sha256: str
    versions: dict[str, str]
    """Of the packages that made the file."""
    made_by: str
    """The version of this package that made the report."""
    inputs: dict[str, tuple[str, ...]]
    """Name → dtype and dimensions."""
    outputs: dict[str, tuple[str, ...]]
    layers: tuple[Layer, ...]
    bytes: tuple[Share, ...]
    engine: Engine | None = None
    plan: Plan | None = None
    """What the planner predicts on one GPU: without an engine, or beside it where a GPU was named."""
    bench: Bench | None = None
    """What `nvfp4-trt bench` measured of the engine."""
    accuracy: tuple[Output, ...] = ()
    batches: int = 0
    """How many the errors and the activations are from."""
    inputs_from: str = ""
    inputs_random: bool = False
    reference: str = ""
    """What the errors are against."""
    commands: tuple[str, ...]
    """That reproduce it."""
    missing: tuple[Missing, ...] = ()
