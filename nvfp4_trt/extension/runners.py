"""The runners that the options of `polygraphy run` make: they load nothing before they are activated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import onnx
from polygraphy.backend.base import BaseRunner
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from nvfp4_trt.errors import FileMissingError, InputsMissingError, NotAModelError, Nvfp4Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.runners.arrays import Feed

_Result = TypeVar("_Result")
_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.UINT8: "uint8",
}


class LateRunner(BaseRunner):  # type: ignore[misc] # Polygraphy has no types
    """A runner that is made when it is activated, and forgotten when it is deactivated.

    Errors of this package are told as Polygraphy tells its own, without a traceback.

    Args:
        make: makes the runner.
        prefix: of the runner's name.
    """

    def __init__(self, make: Callable[[], BaseRunner], prefix: str) -> None:
        super().__init__(name=None, prefix=prefix)
        self._make = make

    def activate_impl(self) -> None:
        """Make the runner."""
        self.inner = _told(self._activated)

    def _activated(self) -> BaseRunner:
        inner = self._make()
        inner.activate()
        return inner

    def get_input_metadata_impl(self) -> Any:
        """See `BaseRunner`."""
        return self.inner.get_input_metadata(use_numpy_dtypes=False)

    def infer_impl(self, feed_dict: Feed) -> Feed:
        """See `BaseRunner`."""
        outputs: Feed = _told(lambda: self.inner.infer(feed_dict))
        self.inference_time = self.inner.last_inference_time()
        return outputs

    def deactivate_impl(self) -> None:
        """Let go of the runner."""
        self.inner.deactivate()
        del self.inner


def _told(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except Nvfp4Error as error:
        G_LOGGER.error(f"{error.code}: {error.message}\nhint: {error.hint}")
        raise PolygraphyException(error.message) from error


def quantized_runner(path: str, model: str, **options: Any) -> LateRunner:
    """Return a runner of a PyTorch model, quantized when the runner is activated.

    Args:
        path: of a model that `nvfp4-trt export` takes, an NVFP4 checkpoint among them.
        model: the ONNX file of the command line: its inputs are the model's, and its recipe is the default.
        options: see `extension.torch_models.quantized_model`.
    """

    def make() -> BaseRunner:
        from nvfp4_trt.extension.torch_models import quantized_model

        return _runner(quantized_model(Path(path), Path(model), **options), model)

    return LateRunner(make, "nvfp4-torch")


def float_runner(path: str, model: str, **options: Any) -> LateRunner:
    """Return a runner of a PyTorch model as it is.

    Args:
        path: see `quantized_runner`.
        model: see there.
        options: see there; those of quantizing are ignored.
    """

    def make() -> BaseRunner:
        from nvfp4_trt.extension.torch_models import float_model

        return _runner(float_model(Path(path), **options), model)

    return LateRunner(make, "nvfp4-float")


def reference_runner(model: str) -> LateRunner:
    """Return a runner of any file of this package: ONNX Runtime, or what it cannot run ONNX's own evaluator.

    Args:
        model: a portable file, in bf16 too, or a lowered one.
    """

    def make() -> BaseRunner:
        from nvfp4_trt.runners import file_runner

        return file_runner(_existing(model))

    return LateRunner(make, "nvfp4-reference")


def engine_runner(engine: str, *, backend: str | None = None, allow_host_code: bool = False) -> LateRunner:
    """Return a runner of an engine on this machine's GPU.

    Args:
        engine: the file.
        backend: `tensorrt` or `tensorrt_rtx`; by default the one in the engine's record, or that is installed.
        allow_host_code: let the engine run code of its own on the host.
    """

    def make() -> BaseRunner:
        from nvfp4_trt.runners.built_engine import built_engine_runner

        return built_engine_runner(Path(engine), backend=backend, allow_host_code=allow_host_code)

    return LateRunner(make, "nvfp4-engine")


def _runner(module: nn.Module, model: str) -> BaseRunner:
    from nvfp4_trt.runners import TorchRunner

    return TorchRunner(module, _example(_existing(model)))


def _example(model: Path) -> Batch:
    """Return empty tensors of the names, dtypes and ranks of a file's inputs."""
    import torch

    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as error:
        raise NotAModelError(f"{model} is not an ONNX file", "give the ONNX model before the runners") from error
    weights = {tensor.name for tensor in graph.initializer}
    found = {}
    for value in graph.input:
        kind = value.type.tensor_type
        if value.name not in weights:
            dtype = getattr(torch, _DTYPES[kind.elem_type])
            found[value.name] = torch.empty((0,) * len(kind.shape.dim), dtype=dtype)
    if not found:
        raise InputsMissingError(
            f"{model} has no inputs, so there are none to run", "give the exported ONNX model"
        )
    return found


def _existing(model: str) -> Path:
    path = Path(model)
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist", "give the ONNX model before the runners")
    return path
