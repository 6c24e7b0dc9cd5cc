"""Running models through Polygraphy: the float torch module, and an exported file on ONNX Runtime."""

from nvfp4_trt.runners.arrays import as_feed, as_numpy
from nvfp4_trt.runners.onnx_runner import first_line, onnx_runner
from nvfp4_trt.runners.quiet import quiet
from nvfp4_trt.runners.torch_runner import TorchRunner
from nvfp4_trt.runners.widen import holds_bf16, widen

__all__ = ["TorchRunner", "as_feed", "as_numpy", "first_line", "holds_bf16", "onnx_runner", "quiet", "widen"]
