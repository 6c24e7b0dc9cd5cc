"""The audit: is each GEMM that the recipe asked to be FP4 one, by the engine's own layer record?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from nvfp4_trt.auditing.reasons import known_reason
from nvfp4_trt.errors import Fp4LostError
from nvfp4_trt.layers import NVFP4
from nvfp4_trt.patterns import matching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.auditing.record import Row
    from nvfp4_trt.layers import Layer

FLOOR = 0.5625
"""Bytes a parameter that the format cannot go below: half a byte of code, a sixteenth of block scale."""


class LayerAudit(BaseModel):
    """What became of one layer that was to be FP4."""

    name: str
    shape: tuple[int, ...]
    """(N, K) of its weight."""
    requested: str
    """`nvfp4` (an FP4 GEMM) or `nvfp4-weight-only` (FP4 in memory)."""
    realized: bool
    row: str = ""
    """The record's row that runs its GEMM; empty where none was found."""
    scale_row: str = ""
    """The row that computes its activation's scale at run time; empty where the scale is constant."""
    accepted: bool = False
    """Whether a shortfall was accepted by name."""
    reason: str = ""
    """Why it is not realized."""


class Audit(BaseModel):
    """The outcome for a whole engine."""

    layers: tuple[LayerAudit, ...]
    kernels: int
    """Kernel launches: the record's rows without waits, signals, reshapes and casts."""
    weight_bytes: int
    """Bytes of codes and block scales that the engine holds for those layers, padding included."""
    floor_bytes: int
    """0.5625 bytes for each of their parameters."""

    def counts(self, requested: str = NVFP4) -> tuple[int, int]:
        """Return how many layers were asked for, and how many of them were realized."""
        asked = [layer for layer in self.layers if layer.requested == requested]
        return len(asked), sum(layer.realized for layer in asked)

    def check(self) -> None:
        """Refuse an engine that lost FP4 somewhere.

        Raises:
            Fp4LostError: a layer is not realized and was not accepted; names it and the reason.
        """
        lost = [layer for layer in self.layers if not (layer.realized or layer.accepted)]
        if lost:
            more = f" (and {len(lost) - 1} more: {', '.join(x.name for x in lost[1:4])})" if lost[1:] else ""
            raise Fp4LostError(
                f"the GEMM of {lost[0].name} is not FP4 in the engine: {lost[0].reason}{more}",
                f"mend the graph, export without it (--exclude {lost[0].name!r}), or accept it with "
                f"--allow-higher-precision {lost[0].name!r}",
            )


def audit_engine(
    rows: Sequence[Row],
    layers: Sequence[Layer],
    gemms: Mapping[str, str],
    scales: Mapping[str, str],
    between: Mapping[str, str],
    *,
    allow: Sequence[str] = (),
) -> Audit:
    """Hold an engine's record against the recipe's wish.

    Args:
        rows: the layer record.
        layers: the model's layers; those whose weight is NVFP4 are audited.
        gemms: GEMM node name → layer.
        scales: layer → node that computes its activation's scale at run time.
        between: layer → what stands between its dequantized weight and a MatMul.
        allow: patterns of layers whose shortfall is accepted.

    Raises:
        PatternMatchesNothingError: a pattern in `allow` matches no audited layer.
    """
    asked = [layer for layer in layers if layer.quantized and layer.kind != "Embedding"]
    accepted = matching([layer.name for layer in asked], allow, option="--allow-higher-precision")
    by_node = {node: row for row in rows for node in row.onnx if row.type == "gemm"}
    by_node = {**{node: row for row in rows for node in row.onnx if node not in by_node}, **by_node}
    audited = []
    for layer in asked:
        nodes = [node for node, owner in gemms.items() if owner == layer.name]
        found = [by_node[node] for node in nodes if node in by_node]
        whole = bool(nodes) and len(found) == len(nodes)
        fits = all(r.is_fp4_gemm if layer.precision == NVFP4 else _keeps_fp4(r, rows) for r in found)
        realized = whole and fits
        audited.append(
            LayerAudit(
                name=layer.name,
                shape=layer.shape,
                requested=layer.precision,
                realized=realized,
                row=found[0].name if found else "",
                scale_row=_scale_row(rows, scales.get(layer.name)),
                accepted=not realized and layer.name in accepted,
                reason="" if realized else known_reason(layer, found, between.get(layer.name)),
            )
        )
    return Audit(
        layers=tuple(audited),
        kernels=sum(row.is_launch for row in rows),
        weight_bytes=_weight_bytes(rows),
        floor_bytes=int(sum(FLOOR * layer.shape[0] * layer.shape[1] for layer in asked)),
    )


def _keeps_fp4(gemm: Row, rows: Sequence[Row]) -> bool:
    """Weight-only: the GEMM, or the row that dequantizes for it, reads the codes from memory."""
    if gemm.reads_fp4_weight:
        return True
    wanted = {operand.name for operand in gemm.inputs}
    return any(row.reads_fp4_weight for row in rows if wanted & {operand.name for operand in row.outputs})


def _scale_row(rows: Sequence[Row], scale_node: str | None) -> str:
    if scale_node is None:
        return ""
    return next((row.name for row in rows if any(n.startswith(f"{scale_node}/") for n in row.onnx)), "")


def _weight_bytes(rows: Sequence[Row]) -> int:
    """Sum codes and block scales over the rows that hold codes, each constant once."""
    seen = {
        operand.name: operand.nbytes
        for row in rows
        if row.reads_fp4_weight or row.is_fp4_gemm  # of an odd N, codes reach the GEMM from another row
        for operand in row.constants
        if operand.dtype.startswith("FP4") or operand.dtype == "FP8"
    }
    return sum(seen.values())
