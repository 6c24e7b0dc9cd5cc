"""What an engine costs, by its layer record: kernels, bytes, operations, and a modelled time.

The time is a roofline: a kernel takes the longer of its operations at the GPU's peak and its bytes at the GPU's
bandwidth (S. Williams, A. Waterman, D. Patterson: "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009), and each kernel adds a constant launch overhead. It ranks
forms of one model and is no substitute for a stopwatch: occupancy, caches and overlap are not in it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from nvfp4_trt.auditing.record import BITS
from nvfp4_trt.costing.operands import find_extents
from nvfp4_trt.costing.traffic import PRECISIONS, multiplies, row_flops, row_traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.auditing import Row
    from nvfp4_trt.costing.gpus import GPU
    from nvfp4_trt.costing.operands import Extents
    from nvfp4_trt.costing.shapes import TensorShapes

Bound = Literal["compute", "memory", "launch"]


class RowCost(BaseModel):
    """What one row of the record costs."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    kernels: int
    """1 where the row starts a kernel, else 0."""
    read_bytes: int
    written_bytes: int
    flops: int
    """Of matrix products, 2 for each product summed; pointwise arithmetic is not counted."""
    precision: str
    """`fp4`, `fp8`, `fp16` or `fp32`, the wider of a product's two sides; empty where `flops` is 0."""
    microseconds: float
    """Modelled."""
    bound: Bound
    """Which term of the modelled time is the largest."""


class EngineCost(BaseModel):
    """What one run of an engine costs."""

    model_config = ConfigDict(frozen=True)

    gpu: str
    """Name of the GPU that the time is modelled on."""
    kernels: int
    """Kernel launches, as the audit counts them."""
    waits: int
    """Rows beside them: waits, signals, reshapes and casts."""
    read_bytes: int
    written_bytes: int
    bytes: int
    """Both together."""
    flops: dict[str, int]
    """Precision → operations of matrix products."""
    microseconds: float
    """Modelled: the rows' times, one after another."""
    unresolved: int
    """Operands of unknown size or dtype: they count as the largest size that fits (or as nothing), 32 bits."""
    operands: int
    """How many operands the record has."""
    rows: tuple[RowCost, ...]

    def brief(self) -> dict[str, Any]:
        """Return what the `--json` output and the engine's record keep."""
        return {
            "gpu": self.gpu,
            "kernels": self.kernels,
            "waits": self.waits,
            "bytes": self.bytes,
            "microseconds_modelled": round(self.microseconds, 3),
            "unresolved": self.unresolved,
        }


def cost_engine(rows: Sequence[Row], gpu: GPU, shapes: TensorShapes) -> EngineCost:
    """Add up what the rows of an engine's record cost.

    Args:
        rows: the layer record.
        gpu: whose peaks, bandwidth and launch overhead the time is modelled with.
        shapes: of the lowered model's tensors at the shape to cost; empty for an engine of fixed shapes.
    """
    extents = find_extents(rows, shapes)
    sharing = Counter(name for row in rows if multiplies(row) for name in row.onnx)
    costs = tuple(_cost_row(row, gpu, shapes, extents, sharing) for row in rows)
    flops: Counter[str] = Counter()
    for cost in costs:
        flops[cost.precision] += cost.flops
    operands = [o for row in rows for o in (*row.inputs, *row.constants, *row.outputs)]
    read, written = sum(c.read_bytes for c in costs), sum(c.written_bytes for c in costs)
    return EngineCost(
        gpu=gpu.name,
        kernels=sum(cost.kernels for cost in costs),
        waits=sum(not cost.kernels for cost in costs),
        read_bytes=read,
        written_bytes=written,
        bytes=read + written,
        flops={name: flops[name] for name in PRECISIONS if flops[name]},
        microseconds=sum(cost.microseconds for cost in costs),
        unresolved=sum(not extents.of(o).known or o.dtype not in BITS for o in operands),
        operands=len(operands),
        rows=costs,
    )


def _cost_row(row: Row, gpu: GPU, shapes: TensorShapes, extents: Extents, sharing: Counter[str]) -> RowCost:
    read, written = row_traffic(row, shapes, extents)
    flops, precision = row_flops(row, shapes, extents, sharing)
    terms: dict[Bound, float] = {
        "compute": flops / gpu.peak(precision) * 1e6 if flops else 0.0,
        "memory": (read + written) / gpu.bandwidth_gbs / 1e3,
        "launch": gpu.launch_us if row.is_launch else 0.0,
    }
    return RowCost(
        name=row.name,
        type=row.type,
        kernels=int(row.is_launch),
        read_bytes=read,
        written_bytes=written,
        flops=flops,
        precision=precision,
        microseconds=max(terms["compute"], terms["memory"]) + terms["launch"],
        bound=max(terms, key=lambda bound: terms[bound]),
    )
