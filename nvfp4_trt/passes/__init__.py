"""Lowering: from the portable ONNX graph to the form that TensorRT builds FP4 GEMMs from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvfp4_trt.passes.attention_shapes import AttentionShapes
from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.block_quantizers import QUARTER, BlockQuantizers
from nvfp4_trt.passes.first_blocks import KEPT_BLOCKS, Blocks, find_blocks, keep_first_blocks
from nvfp4_trt.passes.fixed_dims import fix_dims
from nvfp4_trt.passes.flatten_rows import FlattenRows
from nvfp4_trt.passes.fold_constants import FoldConstants
from nvfp4_trt.passes.forms import FORMS, PLAIN, Form
from nvfp4_trt.passes.fp4_weights import Fp4Weights
from nvfp4_trt.passes.fp8_quantizers import Fp8Quantizers
from nvfp4_trt.passes.gemm_to_matmul import GemmToMatMul
from nvfp4_trt.passes.inline_scales import InlineScales
from nvfp4_trt.passes.known_k import KnownK
from nvfp4_trt.passes.maximum_apart import MaximumApart
from nvfp4_trt.passes.merge_linears import MergeLinears
from nvfp4_trt.passes.outer_scale import OuterScale
from nvfp4_trt.passes.pad_rows import PadRows, missing_rows, quantized_rows
from nvfp4_trt.passes.pick_before_norm import PickBeforeNorm
from nvfp4_trt.passes.plugin_activations import PluginActivations
from nvfp4_trt.passes.plugin_bodies import PluginBodies, strip_plugin_functions
from nvfp4_trt.passes.plugin_linears import PluginLinears
from nvfp4_trt.passes.plugin_merge import PluginMerge
from nvfp4_trt.passes.plugin_nodes import GEMM, PLUGIN_DOMAIN, is_plugin, layers_at, layers_of
from nvfp4_trt.passes.plugin_norms import PluginNorms
from nvfp4_trt.passes.single_level import SingleLevel
from nvfp4_trt.passes.tensorrt_quantizers import TensorRTQuantizers
from nvfp4_trt.passes.tied_linears import TiedLinears
from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

PIPELINE: tuple[type[LoweringPass], ...] = (
    FoldConstants,
    AttentionShapes,
    KnownK,
    PickBeforeNorm,
    SingleLevel,
    GemmToMatMul,
    TiedLinears,
    MergeLinears,
    FlattenRows,
    OuterScale,
    Fp8Quantizers,
    Fp4Weights,
    TensorRTQuantizers,
    InlineScales,
)

PLUGIN_PASSES: tuple[type[LoweringPass], ...] = (
    KnownK,
    PickBeforeNorm,
    GemmToMatMul,
    TiedLinears,
    PluginLinears,
    PluginNorms,
    PluginActivations,
    PluginMerge,
)
"""What makes plugin nodes of the linears that the plugin takes."""
PLUGIN_PIPELINE: tuple[type[LoweringPass], ...] = (
    FoldConstants,
    AttentionShapes,
    *PLUGIN_PASSES,
    SingleLevel,
    MergeLinears,
    FlattenRows,
    OuterScale,
    Fp8Quantizers,
    Fp4Weights,
    TensorRTQuantizers,
    InlineScales,
    PluginBodies,
)
"""The second pipeline: plugin nodes where the plugin takes a linear, TensorRT's own form for the rest."""


@dataclass(frozen=True)
class Lowering:
    """What the pipeline did to a model."""

    changes: dict[str, int]
    """Pass name → how many places it changed."""
    gemms: dict[str, tuple[str, ...]]
    """GEMM node name → the layers that it computes, in the order of its output's columns, for every GEMM with an
    NVFP4 or FP8 weight that TensorRT builds."""
    scales: dict[str, str]
    """Layer → name of the node that computes its activation's scale at run time."""
    plugin_gemms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """`Nvfp4Gemm` node name → the layers that it computes, in the order of its output's columns."""


def lower(
    model: ir.Model,
    *,
    plugin: bool = False,
    portable_rest: bool = False,
    form: Form = PLAIN,
    extents: Mapping[str, int] | None = None,
    pad_rows: bool = False,
) -> Lowering:
    """Run a whole pipeline on a portable model, in place.

    Args:
        model: what `portable.load` returns.
        plugin: lower the linears that the TensorRT plugin takes to its operators. The model then carries
            function bodies for them; TensorRT's parser wants it without (`strip_plugin_functions`).
        portable_rest: with `plugin`, leave what the plugin does not take as it is, so that ONNX Runtime runs
            the whole file: it has no kernels for the FLOAT4E2M1 of TensorRT's form.
        form: of the graph, where several mean the same.
        extents: dynamic dimensions that are to have one extent, by name; they become numbers in the graph.
        pad_rows: where the number of rows is known then, make it a multiple of 128.
    """
    changes: dict[str, int] = {}
    gemms: dict[str, tuple[str, ...]] = {}
    scales: dict[str, str] = {}
    pipeline = PLUGIN_PIPELINE if plugin else PIPELINE
    if plugin and portable_rest:
        pipeline = (*PLUGIN_PASSES, PluginBodies)
    if form == "blocks":
        # In front of TensorRTQuantizers, which then finds what it leaves.
        both = (MaximumApart, BlockQuantizers, TensorRTQuantizers)
        pipeline = tuple(each for kind in pipeline for each in (both if kind is TensorRTQuantizers else (kind,)))
    if pad_rows:
        pipeline = tuple(
            each for kind in pipeline for each in ((kind, PadRows) if kind is FlattenRows else (kind,))
        )
    if extents:
        changes["fixed-dims"] = fix_dims(model, extents)
    for kind in pipeline:
        if kind is OuterScale:  # the last moment at which sites and their scales are what they were
            sites = find_sites(model.graph)
            gemms = {site.gemm.name or "": layers_at(site) for site in sites}
            nodes = {site.gemm.name or "": site.scale.name or "" for site in sites if site.scale is not None}
            scales = {layer: node for gemm, node in nodes.items() for layer in gemms[gemm]}
        changes[kind.name] = kind().run(model)
    plugins = {node.name or "": layers_of(node) for node in model.graph if is_plugin(node, GEMM)}
    return Lowering(changes, gemms, {**scales, **_plugin_scales(model.graph)}, plugins)


def _plugin_scales(graph: ir.Graph) -> dict[str, str]:
    """Return, for layers in plugin nodes with a run-time scale, the name of the quantizer that computes it."""
    found = {}
    for node in graph:
        quantize = node.inputs[0].producer() if is_plugin(node, GEMM) and node.inputs[0] is not None else None
        if quantize is not None and quantize.attributes.get_string("scaling") in {"token", "tensor"}:
            found.update(dict.fromkeys(layers_of(node), quantize.name or ""))
    return found


_ALL: tuple[type[LoweringPass], ...] = (*PIPELINE, *PLUGIN_PIPELINE, BlockQuantizers, MaximumApart, PadRows)
_NAMES = [kind.__name__ for kind in dict.fromkeys(_ALL)]
__all__ = [  # noqa: PLE0604
    "FORMS",
    "KEPT_BLOCKS",
    "PIPELINE",
    "PLAIN",
    "PLUGIN_DOMAIN",
    "PLUGIN_PASSES",
    "PLUGIN_PIPELINE",
    "QUARTER",
    "Blocks",
    "Form",
    "Lowering",
    "LoweringPass",
    "find_blocks",
    "fix_dims",
    "keep_first_blocks",
    "lower",
    "missing_rows",
    "quantized_rows",
    "strip_plugin_functions",
    *_NAMES,
]
