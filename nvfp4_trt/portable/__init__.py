"""The portable ONNX file: its operators and their bodies, its metadata, reading and writing; without torch."""

from nvfp4_trt.portable.files import check_is_file, load, looks_like_onnx, read_any, save, undecodable
from nvfp4_trt.portable.functions import (
    BLOCK,
    DOMAIN,
    OPSET,
    VERSION,
    decode_table,
    e2m1_values,
    portable_functions,
)
from nvfp4_trt.portable.metadata import Metadata, package_versions, read_metadata
from nvfp4_trt.portable.sites import (
    FP8_SUFFIX,
    LAYER,
    PACKED_SUFFIX,
    Site,
    find_sites,
    interruptions,
    is_ours,
    is_weight,
    layer_name,
)
from nvfp4_trt.portable.swizzle import swizzle_bytes, unswizzle_bytes
from nvfp4_trt.portable.weights import LayerScales, StoredWeight, layer_scales, stored_weights

__all__ = [
    "BLOCK",
    "DOMAIN",
    "FP8_SUFFIX",
    "LAYER",
    "OPSET",
    "PACKED_SUFFIX",
    "VERSION",
    "LayerScales",
    "Metadata",
    "Site",
    "StoredWeight",
    "check_is_file",
    "decode_table",
    "e2m1_values",
    "find_sites",
    "interruptions",
    "is_ours",
    "is_weight",
    "layer_name",
    "layer_scales",
    "load",
    "looks_like_onnx",
    "package_versions",
    "portable_functions",
    "read_any",
    "read_metadata",
    "save",
    "stored_weights",
    "swizzle_bytes",
    "undecodable",
    "unswizzle_bytes",
]
