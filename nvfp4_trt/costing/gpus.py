"""GPUs that an engine's cost is modelled on: peaks, memory, and where each number comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from nvfp4_trt.errors import UnknownGpuError

if TYPE_CHECKING:
    from collections.abc import Sequence

ASSUMED_LAUNCH_US = 2.0
"""Microseconds from one kernel's end to the next one's start; an assumption, not measured on any of these GPUs."""

_LAUNCH = f"launch_us ({ASSUMED_LAUNCH_US:g}) is an assumption."
_GEFORCE = "NVIDIA RTX Blackwell GPU Architecture (white paper), GeForce table: dense, fp32 accumulation. "


class GPU(BaseModel):
    """One GPU. Rates are dense peaks at boost clock, with fp32 accumulation where the vendor tells apart."""

    model_config = ConfigDict(frozen=True)

    name: str
    """What `--gpu` takes."""
    title: str
    """The vendor's name of the product."""
    sm: str
    """Its architecture, such as `sm_120`."""
    fp4_tflops: float
    fp8_tflops: float
    fp16_tflops: float
    fp32_tflops: float
    """Of the CUDA cores."""
    bandwidth_gbs: float
    """Of its memory, 10^9 bytes a second."""
    memory_gb: float
    l2_mb: float
    """The second-level cache. No formula uses it: traffic that the cache keeps from memory is not modelled."""
    launch_us: float = ASSUMED_LAUNCH_US
    source: str
    """Where the numbers come from, and which of them are derived."""

    def peak(self, precision: str) -> float:
        """Return the dense peak in FLOP/s for `fp4`, `fp8`, `fp16` or `fp32`."""
        rates = {
            "fp4": self.fp4_tflops,
            "fp8": self.fp8_tflops,
            "fp16": self.fp16_tflops,
            "fp32": self.fp32_tflops,
        }
        return rates[precision] * 1e12


_ALL = (
    GPU(
        name="rtx5090",
        title="GeForce RTX 5090",
        sm="sm_120",
        fp4_tflops=1676,
        fp8_tflops=419,
        fp16_tflops=209.5,
        fp32_tflops=104.8,
        bandwidth_gbs=1792,
        memory_gb=32,
        l2_mb=96,
        source=f"{_GEFORCE}{_LAUNCH}",
    ),
    GPU(
        name="rtx5080",
        title="GeForce RTX 5080",
        sm="sm_120",
        fp4_tflops=900.4,
        fp8_tflops=225.1,
        fp16_tflops=112.6,
        fp32_tflops=56.3,
        bandwidth_gbs=960,
        memory_gb=16,
        l2_mb=64,
        source=f"{_GEFORCE}{_LAUNCH}",
    ),
    GPU(
        name="rtx5070ti",
        title="GeForce RTX 5070 Ti",
        sm="sm_120",
        fp4_tflops=703,
        fp8_tflops=175.8,
        fp16_tflops=87.9,
        fp32_tflops=43.9,
        bandwidth_gbs=896,
        memory_gb=16,
        l2_mb=48,
        source=(
            "nvidia.com, GeForce RTX 5070 Ti: 1406 AI TOPS (sparse FP4), 16 GB, 896 GB/s. Derived: FP4 is half of "
            f"it, FP8 an eighth and FP16 a sixteenth (the ratios of the white paper's GeForce table). {_LAUNCH}"
        ),
    ),
    GPU(
        name="rtx-pro-6000",
        title="RTX PRO 6000 Blackwell Workstation Edition",
        sm="sm_120",
        fp4_tflops=2000,
        fp8_tflops=1000,
        fp16_tflops=500,
        fp32_tflops=125,
        bandwidth_gbs=1792,
        memory_gb=96,
        l2_mb=128,
        source=(
            "NVIDIA RTX PRO 6000 Blackwell Workstation Edition datasheet: 4000 AI TOPS (sparse FP4), 125 TFLOPS "
            "FP32, 1792 GB/s. Derived: FP4 is half of the sparse figure, FP8 and FP16 a half and a quarter of "
            f"that. {_LAUNCH}"
        ),
    ),
    GPU(
        name="dgx-spark",
        title="DGX Spark (GB10)",
        sm="sm_121",
        fp4_tflops=500,
        fp8_tflops=250,
        fp16_tflops=125,
        fp32_tflops=31,
        bandwidth_gbs=273,
        memory_gb=128,
        l2_mb=24,
        source=(
            "NVIDIA DGX Spark hardware guide: 1 PFLOP sparse FP4, 128 GB, 273 GB/s; NVIDIA at Hot Chips 2025: 31 "
            "TFLOPS FP32. Derived: FP4 is half of the sparse figure, FP8 and FP16 a half and a quarter of that, "
            "as answered in NVIDIA's developer forum (500, 250, 125). The memory is the CPU's too. L2: reported "
            f"by deviceQuery. {_LAUNCH}"
        ),
    ),
    GPU(
        name="b200",
        title="HGX B200, one GPU",
        sm="sm_100",
        fp4_tflops=9000,
        fp8_tflops=4500,
        fp16_tflops=2250,
        fp32_tflops=75,
        bandwidth_gbs=7700,
        memory_gb=180,
        l2_mb=126,
        source=(
            "NVIDIA Blackwell datasheet, HGX B200, a GPU: 18 | 9 PFLOPS FP4 sparse | dense, 9 FP8 and 4.5 FP16 "
            "sparse, 75 TFLOPS FP32, 180 GB, 7.7 TB/s. Derived: FP8 and FP16 are half of the sparse figures. L2: "
            f"reported by deviceQuery. {_LAUNCH}"
        ),
    ),
    GPU(
        name="gb300",
        title="GB300 NVL72, one GPU",
        sm="sm_103",
        fp4_tflops=15000,
        fp8_tflops=5000,
        fp16_tflops=2500,
        fp32_tflops=80,
        bandwidth_gbs=8000,
        memory_gb=279,
        l2_mb=126,
        source=(
            "NVIDIA GB300 NVL72 specifications: 1440 | 1080 PFLOPS FP4 sparse | dense, 720 FP8 and 360 FP16 "
            "sparse, 20 TB at 576 TB/s. Derived: a 72nd of each; FP8 and FP16 also halved. L2: taken to be that "
            f"of B200. {_LAUNCH}"
        ),
    ),
    GPU(
        name="thor",
        title="Jetson AGX Thor (T5000)",
        sm="sm_110",
        fp4_tflops=1035,
        fp8_tflops=517,
        fp16_tflops=258,
        fp32_tflops=8.0,
        bandwidth_gbs=273,
        memory_gb=128,
        l2_mb=32,
        source=(
            "NVIDIA Jetson T5000 datasheet: 2070 TFLOPS sparse FP4, 2560 CUDA cores at 1.57 GHz, 128 GB, 273 "
            "GB/s. Derived: FP4 is half of the sparse figure, FP8 and FP16 a half and a quarter of that, FP32 two "
            f"operations a core and cycle. The memory is the CPU's too. L2: reported by deviceQuery. {_LAUNCH}"
        ),
    ),
)

GPUS = {gpu.name: gpu for gpu in _ALL}
"""By name."""
DEFAULT = "rtx5090"
"""Where neither a GPU nor an architecture is named: the architecture that a build takes by default."""
_BY_TARGET = {
    "sm_120": "rtx5090",
    "sm_121": "dgx-spark",
    "sm_100": "b200",
    "sm_103": "gb300",
    "sm_110": "thor",
}

_BY_DRIVER = {
    "NVIDIA GeForce RTX 5090": "rtx5090",
    "NVIDIA GeForce RTX 5080": "rtx5080",
    "NVIDIA GeForce RTX 5070 Ti": "rtx5070ti",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtx-pro-6000",
    "NVIDIA GB10": "dgx-spark",
    "NVIDIA B200": "b200",
    "NVIDIA GB300": "gb300",
    "NVIDIA Thor": "thor",
}
"""What `nvidia-smi` calls them. Whole names: a laptop's GPU has another name, and other figures."""


def gpu_called(driver_name: str) -> GPU | None:
    """Return the GPU that the driver calls so; None where it is not in the table."""
    name = _BY_DRIVER.get(driver_name)
    return None if name is None else GPUS[name]


def find_gpu(name: str) -> GPU:
    """Return the GPU of that name; capitals, spaces and underscores do not matter.

    Raises:
        UnknownGpuError: there is none; lists the names.
    """
    found = GPUS.get(name.strip().lower().replace("_", "-").replace(" ", "-"))
    if found is None:
        raise UnknownGpuError(
            f"no figures are known for the GPU {name!r}", f"the GPUs that costs are modelled on: {', '.join(GPUS)}"
        )
    return found


def gpu_for(targets: Sequence[str], name: str | None = None) -> GPU:
    """Return the GPU that times are modelled on: the one named, or that of the first of an engine's architectures.

    Raises:
        UnknownGpuError: the table has no GPU of that name, or of that architecture.
    """
    if name:
        return find_gpu(name)
    if not targets:
        return GPUS[DEFAULT]
    if targets[0] not in _BY_TARGET:
        raise UnknownGpuError(
            f"no GPU of the architecture {targets[0]} is in the table",
            f"name one that is, for a model of another: {', '.join(GPUS)}",
        )
    return GPUS[_BY_TARGET[targets[0]]]
