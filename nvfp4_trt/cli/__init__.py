"""The command line: parsing and printing only; each command calls one function of the API.

No module here imports torch, onnx or TensorRT at its top, so `--help` answers at once.
"""

from nvfp4_trt.cli.main import main, run

__all__ = ["main", "run"]
