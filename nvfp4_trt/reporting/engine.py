"""What an engine's record says: the audit, and where the modelled time goes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from nvfp4_trt.costing import cost_engine, gpu_for
from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4, WEIGHT_ONLY
from nvfp4_trt.reporting.data import Engine, Kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nvfp4_trt.auditing import LayerAudit, Row
    from nvfp4_trt.building import EngineRecord
    from nvfp4_trt.costing import TensorShapes
    from nvfp4_trt.costing.cost import RowCost
    from nvfp4_trt.reporting.data import Layer

KINDS = (
    "FP4 GEMM",
    "FP8 GEMM",
    "plugin",
    "other products",
    "quantizers, with what is fused into them",
    "attention",
    "all else",
)
_QUANTIZER = ".input_quantizer"
_QUANTIZER_OF_ROOT = "input_quantizer/"


def describe(record: EngineRecord, shapes: TensorShapes, gpu: str | None) -> Engine:
    """Cost an engine by its record.

    Args:
        record: of the engine.
        shapes: of the lowered model at the profile's optimum.
        gpu: that the time is modelled on; by default the one that stands for the first target.

    Raises:
        UnknownGpuError: there are no figures for it.
    """
    modelled = gpu_for(record.targets, gpu)
    cost = cost_engine(record.rows, modelled, shapes)
    runs: dict[str, list[str]] = defaultdict(list)
    for layer in record.audit.layers:
        runs[layer.row].append(layer.name)
    kernels = (
        _kernel(row, each, tuple(runs.get(row.name, ())), shapes)
        for row, each in zip(record.rows, cost.rows, strict=True)
    )
    counts = {name: record.audit.counts(name) for name in (NVFP4, WEIGHT_ONLY, FP8, FP8_WEIGHT_ONLY)}
    return Engine(
        file=record.engine,
        bytes=record.engine_bytes,
        backend=record.backend,
        version=record.version,
        targets=record.targets,
        profile=record.profile,
        seconds=record.seconds,
        form=record.form,
        asked={name: both for name, both in counts.items() if both[0]},
        launches=record.audit.kernels,
        weight_bytes=record.audit.weight_bytes,
        floor_bytes=record.audit.floor_bytes,
        activation_bytes=None if record.memory is None else record.memory.activation_bytes,
        gpu=modelled.name,
        gpu_title=modelled.title,
        gpu_source=modelled.source,
        microseconds=cost.microseconds,
        kernels=tuple(kernels),
        trtexec=record.trtexec,
    )


def _kernel(row: Row, cost: RowCost, layers: tuple[str, ...], shapes: TensorShapes) -> Kernel:
    return Kernel(
        name=row.name,
        kind=_kind(row, cost, shapes),
        layers=layers,
        launches=cost.kernels,
        read_bytes=cost.read_bytes,
        written_bytes=cost.written_bytes,
        flops=cost.flops,
        precision=cost.precision,
        microseconds=cost.microseconds,
        bound=cost.bound,
    )


def _kind(row: Row, cost: RowCost, shapes: TensorShapes) -> str:
    gemm, fp8_gemm, plugin, product, quantizer, attention, rest = KINDS
    if row.is_fp4_gemm:
        return gemm
    if row.is_fp8_gemm:
        return fp8_gemm
    if row.is_plugin:
        return plugin
    attends = any(name in shapes.nodes and shapes.nodes[name].op_type == "Attention" for name in row.onnx)
    if cost.flops:
        return attention if attends else product
    if any(_QUANTIZER in name or name.startswith(_QUANTIZER_OF_ROOT) for name in row.onnx):
        return quantizer
    return attention if attends else rest


def with_engine(layers: Iterable[Layer], record: EngineRecord, engine: Engine) -> list[Layer]:
    """Return the layers with what the audit and the modelled time say of them."""
    audited = {layer.name: layer for layer in record.audit.layers}
    kernels = {kernel.name: kernel for kernel in engine.kernels}
    rows = list(layers)
    sharing: Counter[str] = Counter()
    for layer in rows:
        if layer.name in audited:
            sharing[audited[layer.name].row] += layer.parameters
    return [_audited(layer, audited, kernels, sharing) for layer in rows]


def _audited(
    layer: Layer, audited: Mapping[str, LayerAudit], kernels: Mapping[str, Kernel], sharing: Mapping[str, int]
) -> Layer:
    found = audited.get(layer.name)
    if found is None:
        return layer
    kernel = kernels.get(found.row)
    update = {
        "realized": found.realized,
        "accepted": found.accepted,
        "engine_reason": found.reason,
        "kernel": found.row,
        "microseconds": None if kernel is None else kernel.microseconds * layer.parameters / sharing[found.row],
        "bound": "" if kernel is None else kernel.bound,
    }
    return layer.model_copy(update=update)
