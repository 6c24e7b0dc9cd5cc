"""What a plan says."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["nvfp4", "fp8", "bf16"]
"""`nvfp4`: the model as its file is; the others: the same model in that precision."""
Bound = Literal["compute", "memory", "launch"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlanRow(_Frozen):
    """A GEMM with the kernels that serve it, or one other kernel."""

    name: str
    """The layers that a GEMM computes, joined by `+`; of another kernel, the ONNX node that it ends with."""
    kind: str
    """`linear`, `attention`, `fused`, `convolution`, `host`, or `opaque`: an operator that nothing is known of."""
    what: str
    """Its operators, in short."""
    kernels: int
    helpers: dict[str, int] = Field(default_factory=dict)
    """Of a GEMM: what serves it (`quantize`, `swizzle`, `dequantize`) → how many kernels."""
    precision: str
    """Of its products: `fp4`, `fp8`, `fp16` or `fp32`; empty where it has none."""
    flops: int
    bytes: int
    """That it reads and writes."""
    weight_bytes: int
    """Of constants that it reads as a whole."""
    microseconds_modelled: float
    bound: Bound
    """What takes most of that time."""


class PrecisionPlan(_Frozen):
    """The engine of one precision on one GPU."""

    precision: Precision
    variant: str
    """How the builder would lower the model, see docs/benchmarks.md."""
    engine_bytes: int
    weight_bytes: int
    kernels: int
    """Launches of one run."""
    moved_bytes: int
    """That the kernels of one run read and write."""
    activation_bytes: int
    """Device memory for activations and workspaces, at the largest shape."""
    device_bytes: int
    """Device memory in all: weights, activations, inputs and outputs."""
    fits: bool
    """Whether that is no more than the GPU has."""
    microseconds_modelled: float
    bounds: dict[Bound, float]
    """What bounds the kernels → modelled microseconds of those."""
    rows: tuple[PlanRow, ...]


class GpuPlan(_Frozen):
    """The engines on one GPU."""

    gpu: str
    title: str
    target: str
    """Its architecture."""
    memory_bytes: int
    calibrated: dict[str, float]
    """Precision → what its modelled times were multiplied by, from a benchmark of that GPU; empty without one."""
    engines: tuple[PrecisionPlan, ...]

    def engine(self, precision: Precision) -> PrecisionPlan:
        """Return the engine of a precision."""
        return next(each for each in self.engines if each.precision == precision)

    @property
    def speedups(self) -> dict[str, float]:
        """Other precision → its modelled time over that of NVFP4."""
        ours = self.engine("nvfp4").microseconds_modelled
        return {
            each.precision: each.microseconds_modelled / ours for each in self.engines if each.precision != "nvfp4"
        }


class Plan(_Frozen):
    """What engines of a model would be: nothing of it is measured."""

    source: str
    recipe: str
    shapes: dict[str, tuple[int, ...]]
    """Input → the shape that times are modelled at."""
    largest: dict[str, tuple[int, ...]]
    """Input → the largest shape, which memory is reserved for."""
    builder_bytes: int
    """Host memory that building the NVFP4 engine takes."""
    notes: tuple[str, ...]
    """What could not be seen: operators that nothing is known of, tensors of unknown shape."""
    gpus: tuple[GpuPlan, ...]
