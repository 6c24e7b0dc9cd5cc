"""Serving fixed shapes: a set of engines, one for each bucket, and the dispatcher that picks among them."""

from nvfp4_trt.serving.buckets import Bucket, dynamic_dims, parse_buckets
from nvfp4_trt.serving.build import ServingSet, build_buckets
from nvfp4_trt.serving.dispatcher import Dispatcher
from nvfp4_trt.serving.manifest import Manifest, is_serving_set, read_manifest
from nvfp4_trt.serving.planning import Run

__all__ = [
    "Bucket",
    "Dispatcher",
    "Manifest",
    "Run",
    "ServingSet",
    "build_buckets",
    "dynamic_dims",
    "is_serving_set",
    "parse_buckets",
    "read_manifest",
]
