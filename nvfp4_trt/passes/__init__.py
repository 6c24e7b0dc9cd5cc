"""Lowering: from the portable ONNX graph to the form that TensorRT builds FP4 GEMMs from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.flatten_rows import FlattenRows
from nvfp4_trt.passes.fp4_weights import Fp4Weights
from nvfp4_trt.passes.gemm_to_matmul import GemmToMatMul
from nvfp4_trt.passes.inline_scales import InlineScales
from nvfp4_trt.passes.known_k import KnownK
from nvfp4_trt.passes.outer_scale import OuterScale
from nvfp4_trt.passes.pick_before_norm import PickBeforeNorm
from nvfp4_trt.passes.single_level import SingleLevel
from nvfp4_trt.passes.tensorrt_quantizers import TensorRTQuantizers
from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    import onnx_ir as ir

PIPELINE: tuple[type[LoweringPass], ...] = (
    KnownK,
    PickBeforeNorm,
    SingleLevel,
    GemmToMatMul,
    FlattenRows,
    OuterScale,
    Fp4Weights,
    TensorRTQuantizers,
    InlineScales,
)


@dataclass(frozen=True)
class Lowering:
    """What the pipeline did to a model."""

    changes: dict[str, int]
    """Pass name → how many places it changed."""
    gemms: dict[str, str]
    """GEMM node name → the layer that it belongs to, for every GEMM with an NVFP4 weight."""
    scales: dict[str, str]
    """Layer → name of the node that computes its activation's scale at run time."""


def lower(model: ir.Model) -> Lowering:
    """Run the whole pipeline on a portable model, in place."""
    changes: dict[str, int] = {}
    gemms: dict[str, str] = {}
    scales: dict[str, str] = {}
    for kind in PIPELINE:
        if kind is OuterScale:  # the last moment at which sites and their scales are what they were
            sites = find_sites(model.graph)
            gemms = {site.gemm.name or "": site.layer for site in sites}
            scales = {site.layer: site.scale.name or "" for site in sites if site.scale is not None}
        changes[kind.name] = kind().run(model)
    return Lowering(changes, gemms, scales)


__all__ = ["PIPELINE", "Lowering", "LoweringPass", "lower", *(kind.__name__ for kind in PIPELINE)]  # noqa: PLE0604
