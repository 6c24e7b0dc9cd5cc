"""The audit: is each GEMM that the recipe asked to be FP4 or FP8 one, by the engine's own layer record?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from nvfp4_trt.auditing.reasons import known_reason
from nvfp4_trt.errors import Fp4LostError, Fp8LostError
from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4
from nvfp4_trt.patterns import matching

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nvfp4_trt.auditing.record import Row
    from nvfp4_trt.layers import Layer

FLOOR = 0.5625
"""Bytes a parameter that the format cannot go below: half a byte of code, a sixteenth of block scale."""


class PluginGemms(BaseModel):
    """The GEMMs of an engine that a plugin runs, and what the kernel pack's record says of their kernels.

    An engine's record names a plugin's layer and its operands, and not what it does with them.
    """

    nodes: dict[str, tuple[str, ...]]
    """Name of a node → the layers that it computes."""
    opcode: str
    """The FP4 instruction that the disassembly of every GEMM kernel holds; empty where one of them holds none."""
    reason: str = ""
    """Why the pack's record proves nothing, where it does not."""
    weight: tuple[int, int] = (3, 4)
    """Which inputs of a node are the weight's codes and its block scales."""


class LayerAudit(BaseModel):
    """What became of one layer that was to be FP4 or FP8."""

    name: str
    shape: tuple[int, ...]
    """(N, K) of its weight."""
    requested: str
    """`nvfp4` (an FP4 GEMM), `nvfp4-weight-only` (FP4 in memory), `fp8` or `fp8-weight-only`, likewise."""
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
    """Bytes of codes and block scales that the engine holds for NVFP4 layers, padding included."""
    floor_bytes: int
    """0.5625 bytes for each of their parameters."""

    def counts(self, requested: str = NVFP4) -> tuple[int, int]:
        """Return how many layers were asked for, and how many of them were realized."""
        asked = [layer for layer in self.layers if layer.requested == requested]
        return len(asked), sum(layer.realized for layer in asked)

    def check(self) -> None:
        """Refuse an engine that lost FP4 or FP8 somewhere.

        Raises:
            Fp4LostError: an NVFP4 layer is not realized and was not accepted; names it and the reason.
            Fp8LostError: the same of an FP8 layer.
        """
        lost = [layer for layer in self.layers if not (layer.realized or layer.accepted)]
        if lost:
            more = f" (and {len(lost) - 1} more: {', '.join(x.name for x in lost[1:4])})" if lost[1:] else ""
            is_fp8 = lost[0].requested in {FP8, FP8_WEIGHT_ONLY}
            kind, wanted = (Fp8LostError, "FP8") if is_fp8 else (Fp4LostError, "FP4")
            raise kind(
                f"the GEMM of {lost[0].name} is not {wanted} in the engine: {lost[0].reason}{more}",
                f"mend the graph, export without it (--exclude {lost[0].name!r}), or accept it with "
                f"--allow-higher-precision {lost[0].name!r}",
            )


def audit_engine(
    rows: Sequence[Row],
    layers: Sequence[Layer],
    gemms: Mapping[str, Sequence[str]],
    scales: Mapping[str, str],
    between: Mapping[str, str],
    *,
    allow: Sequence[str] = (),
    plugin: PluginGemms | None = None,
) -> Audit:
    """Hold an engine's record against the recipe's wish.

    Args:
        rows: the layer record.
        layers: the model's layers; those whose weight is NVFP4 or FP8 are audited.
        gemms: GEMM node name → the layers that it computes.
        scales: layer → node that computes its activation's scale at run time.
        between: layer → what stands between its dequantized weight and a MatMul.
        allow: patterns of layers whose shortfall is accepted.
        plugin: the GEMMs that a plugin runs, and what vouches for them; beside these, no plugin's layer counts.

    Raises:
        PatternMatchesNothingError: a pattern in `allow` matches no audited layer.
    """
    asked = [layer for layer in layers if layer.quantized and layer.kind != "Embedding"]
    accepted = matching([layer.name for layer in asked], allow, option="--allow-higher-precision")
    by_node = {node: row for row in rows for node in row.onnx if row.type == "gemm"}
    by_node = {**{node: row for row in rows for node in row.onnx if node not in by_node}, **by_node}
    audited = []
    for layer in asked:
        nodes = [node for node, owners in gemms.items() if layer.name in owners]
        nodes += [] if plugin is None else [node for node, names in plugin.nodes.items() if layer.name in names]
        found = [by_node[node] for node in nodes if node in by_node]
        whole = bool(nodes) and len(found) == len(nodes)
        realized = whole and all(_fits(row, layer, rows, plugin) for row in found)
        audited.append(
            LayerAudit(
                name=layer.name,
                shape=layer.shape,
                requested=layer.precision,
                realized=realized,
                row=found[0].name if found else "",
                scale_row=_scale_row(rows, scales.get(layer.name)),
                accepted=not realized and layer.name in accepted,
                reason=""
                if realized
                else known_reason(
                    layer, found, between.get(layer.name), unproven="" if plugin is None else plugin.reason
                ),
            )
        )
    return Audit(
        layers=tuple(audited),
        kernels=sum(row.is_launch for row in rows),
        weight_bytes=_weight_bytes(rows) + _plugin_weight_bytes(rows, plugin),
        floor_bytes=int(sum(FLOOR * layer.shape[0] * layer.shape[1] for layer in asked if layer.is_fp4)),
    )


def _fits(row: Row, layer: Layer, rows: Sequence[Row], plugin: PluginGemms | None) -> bool:
    if row.is_plugin:
        return plugin is not None and bool(plugin.opcode) and any(node in plugin.nodes for node in row.onnx)
    if not layer.weight_only:
        return row.is_fp8_gemm if layer.is_fp8 else row.is_fp4_gemm
    return _keeps_codes(row, rows, _reads_fp8 if layer.is_fp8 else _reads_fp4)


def _keeps_codes(gemm: Row, rows: Sequence[Row], reads: Callable[[Row], bool]) -> bool:
    """Weight-only: the GEMM, or the row that dequantizes for it, reads the codes from memory."""
    if reads(gemm):
        return True
    wanted = {operand.name for operand in gemm.inputs}
    return any(reads(row) for row in rows if wanted & {operand.name for operand in row.outputs})


def _reads_fp4(row: Row) -> bool:
    return row.reads_fp4_weight


def _reads_fp8(row: Row) -> bool:
    return row.reads_fp8_weight


def _scale_row(rows: Sequence[Row], scale_node: str | None) -> str:
    if scale_node is None:
        return ""

    def computes(node: str) -> bool:
        return node == scale_node or node.startswith(f"{scale_node}/")

    return next((row.name for row in rows if any(map(computes, row.onnx))), "")


def _weight_bytes(rows: Sequence[Row]) -> int:
    """Sum codes and block scales over the rows that hold codes, each constant once."""
    seen = {
        operand.name: operand.nbytes
        for row in rows
        if row.reads_fp4_weight or row.is_fp4_gemm  # of an odd N, codes reach the GEMM from another row
        for operand in row.constants
        if operand.is_fp4 or operand.dtype == "FP8"
    }
    return sum(seen.values())


def _plugin_weight_bytes(rows: Sequence[Row], plugin: PluginGemms | None) -> int:
    """Sum codes and block scales over the rows that the plugin's GEMMs are, each constant once."""
    if plugin is None:
        return 0
    seen = {
        operand.name: operand.nbytes
        for row in rows
        if row.is_plugin and any(node in plugin.nodes for node in row.onnx)
        for index, operand in enumerate(row.inputs)
        if index in plugin.weight
    }
    return sum(seen.values())
