"""Running models through Polygraphy: the float torch module, and an exported file on ONNX Runtime."""

from nvfp4_trt.runners.arrays import as_feed, as_numpy
from nvfp4_trt.runners.evaluator_runner import EvaluatorRunner
from nvfp4_trt.runners.file_runner import file_runner
from nvfp4_trt.runners.onnx_runner import onnx_runner
from nvfp4_trt.runners.quiet import quiet
from nvfp4_trt.runners.torch_runner import TorchRunner
from nvfp4_trt.runners.widen import holds_bf16, widen

__all__ = [
    "EvaluatorRunner",
    "TorchRunner",
    "as_feed",
    "as_numpy",
    "file_runner",
    "holds_bf16",
    "onnx_runner",
    "quiet",
    "widen",
]
